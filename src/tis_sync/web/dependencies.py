"""Dependencies of requests: the services of this process, the caller, and the caller's roles."""

from typing import Annotated

from fastapi import Depends, Request

from tis_sync import audit
from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services
from tis_sync.web.auth import sessions, tokens
from tis_sync.web.auth.identity import LOCAL, Caller, NotAllowedError, NotSignedInError
from tis_sync.web.auth.oidc import Provider
from tis_sync.web.feeds import Feeds

LONGEST_KEY = 200  # characters of an idempotency key
LARGEST_INTEGER = 2**63  # the integers of a database are smaller


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _feeds(request: Request) -> Feeds:
    feeds: Feeds = request.app.state.feeds
    return feeds


Servers = Annotated[Services, Depends(_services)]
LiveFeeds = Annotated[Feeds, Depends(_feeds)]


def provider_of(request: Request) -> Provider | None:
    """Return the sign-in provider.

    None: none is configured. Then nobody signs in, and only this machine is answered.
    """
    provider: Provider | None = request.app.state.provider
    return provider


def caller(request: Request) -> Caller:
    """Return the caller, by bearer token or session; without a provider, this machine.

    Raises:
        NotSignedInError: the caller is unknown.
        NotAllowedError: the token contains none of our roles.

    """
    s, provider = _services(request), provider_of(request)
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise NotSignedInError("Only bearer tokens are accepted: Authorization: Bearer TOKEN.")
        if secret.startswith(tokens.PREFIX) or provider is None:
            return tokens.caller_of(s.state, secret.strip(), s.clock())
        return provider.bearer(secret.strip())
    if provider is None:
        return LOCAL
    cookie = request.cookies.get(sessions.COOKIE)
    person = None if cookie is None else sessions.caller_of(s.state, cookie, s.clock())
    if person is None:
        raise NotSignedInError("Sign in, or send a token: Authorization: Bearer TOKEN.")
    return person


def _run_id(run_id: str, s: Servers) -> str:
    return s.history.get(run_id).id


# The full id of the run in the path. An event stream needs it before the answer begins: an error
# after that could no longer become a status code.
RunId = Annotated[str, Depends(_run_id)]
Viewer = Annotated[Caller, Depends(caller)]


def note_refusal(request: Request, reason: str) -> None:
    """Record that a request to change something was refused before it reached an action."""
    try:
        _record_refusal(request, caller(request), reason)
    except TisSyncError:  # nobody we know, or no state database: the log has to do
        audit.refused(request.method, request.url.path, reason)


def _record_refusal(request: Request, user: Caller, reason: str) -> None:
    s = _services(request)
    outcome, path = f"refused: {reason}", request.url.path
    audit.record(s.state, s.clock(), user.actor, request.method, path, outcome)


def _updater(request: Request, user: Viewer) -> Caller:
    if not user.can_update:
        s = _services(request)
        _record_refusal(request, user, "read-only access")
        role = s.settings.oidc_update_role
        raise NotAllowedError(
            f"{user.name} has read-only access. Changing something needs the role {role!r}."
        )
    return user


Updater = Annotated[Caller, Depends(_updater)]
