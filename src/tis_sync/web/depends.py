"""What requests need: the servers of this process, who calls, and whether they may."""

from typing import Annotated

from fastapi import Depends, Request

from tis_sync.runs.services import Services
from tis_sync.web import audit, sessions, tokens
from tis_sync.web.live import Live
from tis_sync.web.provider import Provider
from tis_sync.web.who import LOCAL, Caller, NotAllowedError, NotSignedInError


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def _live(request: Request) -> Live:
    found: Live = request.app.state.live
    return found


Servers = Annotated[Services, Depends(_services)]
Feeds = Annotated[Live, Depends(_live)]


def provider_of(request: Request) -> Provider | None:
    """The sign-in provider; None: nobody signs in, and only this machine is answered."""
    found: Provider | None = request.app.state.provider
    return found


def caller(request: Request) -> Caller:
    """Who calls: by bearer token, by session, or this machine where nobody signs in.

    Raises:
        NotSignedInError: nobody that we know.
        NotAllowedError: the token names none of our roles.

    """
    s, provider = _services(request), provider_of(request)
    given = request.headers.get("authorization")
    if given is not None:
        kind, _, secret = given.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise NotSignedInError("Only bearer tokens are taken: Authorization: Bearer TOKEN.")
        if secret.startswith(tokens.PREFIX) or provider is None:
            return tokens.caller(s.state, secret.strip(), s.clock())
        return provider.bearer(secret.strip())
    if provider is None:
        return LOCAL
    cookie = request.cookies.get(sessions.COOKIE)
    found = None if cookie is None else sessions.read(s.state, cookie, s.clock())
    if found is None:
        raise NotSignedInError("Sign in, or send a token: Authorization: Bearer TOKEN.")
    return found


def _run_id(run_id: str, s: Servers) -> str:
    return s.history.get(run_id).id


# The whole id of the run that a path names; known before an answer begins that goes on and on.
RunId = Annotated[str, Depends(_run_id)]
Viewer = Annotated[Caller, Depends(caller)]


def _updater(request: Request, who: Viewer) -> Caller:
    if not who.can_update:
        s = _services(request)
        audit.record(
            s.state, s.clock(), who=who.name, how=who.how, action=request.method,
            subject=request.url.path, outcome="refused: may look, not change",
        )  # fmt: skip
        role = s.settings.oidc_update_role
        raise NotAllowedError(
            f"{who.name} may look, and not change anything; the role {role!r} is needed."
        )
    return who


Updater = Annotated[Caller, Depends(_updater)]
