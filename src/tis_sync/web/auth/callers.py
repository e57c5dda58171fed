"""Who sends a request: a token of ours or of the provider, a session, or this machine."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from tis_sync.runs.services import Services
from tis_sync.web.auth import session_check, sessions, tokens
from tis_sync.web.auth.identity import LOCAL, Caller, NotSignedInError
from tis_sync.web.auth.oidc import Provider


async def caller_of(s: Services, provider: Provider | None, request: HTTPConnection) -> Caller:
    """Return the caller, by bearer token or session; without a provider, this machine.

    No thread is held while the provider is asked.

    Raises:
        NotSignedInError: the caller is unknown.
        NotAllowedError: the token contains none of our roles.
        UnreachableError: the provider has to be asked, and does not answer.

    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise NotSignedInError("Only bearer tokens are accepted: Authorization: Bearer TOKEN.")
        if secret.startswith(tokens.PREFIX) or provider is None:
            return await run_in_threadpool(tokens.caller_of, s.state, secret.strip(), s.clock())
        return await provider.bearer(secret.strip())
    if provider is None:
        return LOCAL
    cookie = request.cookies.get(sessions.COOKIE)
    if cookie is None:
        raise NotSignedInError("Sign in, or send a token: Authorization: Bearer TOKEN.")
    return await session_check.caller_of(s, provider, cookie)
