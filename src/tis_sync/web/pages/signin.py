"""Sign in and out by browser, at the provider, with a session of our own."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tis_sync import audit
from tis_sync.audit import Actor, Channel
from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services
from tis_sync.web.auth import sessions
from tis_sync.web.auth.identity import NotSignedInError
from tis_sync.web.auth.oidc import Person
from tis_sync.web.auth.session_check import next_check
from tis_sync.web.dependencies import Servers, provider_of
from tis_sync.web.pages.common import redirect
from tis_sync.web.templates import page

router = APIRouter(include_in_schema=False)
START = "/sync/"
CALLBACK = "/sync/signin/done"
SIGNED_OUT = "/sync/signedout"
SIGN_IN_COOKIE = "tis_sync_signin"


def _url(s: Services, path: str) -> str:
    """A URL of the console, as browsers reach it."""
    assert s.settings.web_url is not None
    return s.settings.web_url + path


def _set_cookie(s: Services, answer: Response, name: str, value: str, lifetime: timedelta) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=int(lifetime.total_seconds()),
        path="/sync",
        secure=(s.settings.web_url or "").startswith("https:"),
        httponly=True,
        samesite="lax",
    )


@router.get("/signin")
async def sign_in(
    request: Request,
    s: Servers,
    next_: Annotated[str, Query(alias="next", max_length=2000)] = START,
) -> Response:
    """Redirect to the provider."""
    provider = provider_of(request)
    if provider is None:
        return redirect(START)
    begun = await provider.begin(_url(s, CALLBACK))
    # Only a page of ours, so that a link cannot lead through the sign-in to another site.
    is_ours = urlsplit(next_)[:2] == ("", "") and next_.startswith(START)
    stored = begun.stored | {"next": next_ if is_ours else START}
    cookie = await run_in_threadpool(sessions.begin_sign_in, s.state, stored, s.clock())
    answer = redirect(begun.url)
    _set_cookie(s, answer, SIGN_IN_COOKIE, cookie, sessions.SIGN_IN_TIME)
    return answer


@router.get("/signin/done")
async def signed_in(request: Request, s: Servers) -> Response:
    """Open a session for a person who comes back from the provider."""
    provider, cookie = provider_of(request), request.cookies.get(SIGN_IN_COOKIE)
    stored = None
    if provider is not None and cookie is not None:
        stored = await run_in_threadpool(sessions.take_sign_in, s.state, cookie, s.clock())
    if provider is None or stored is None:
        return page(
            request,
            "error.html",
            status_code=400,
            title="Sign in again",
            detail="This sign-in did not begin in this browser, or it took too long.",
        )
    try:
        person = await provider.complete(_url(s, CALLBACK), request.url.query, stored)
    except TisSyncError as error:
        await run_in_threadpool(_record_refusal, s, error)
        if isinstance(error, NotSignedInError):
            # A page instead of a redirect to the provider, which could go round for ever.
            return page(
                request, "error.html", status_code=401, title="Not signed in", detail=str(error)
            )
        raise
    session = await run_in_threadpool(
        _open_session, s, person, request.cookies.get(sessions.COOKIE)
    )
    answer = redirect(stored["next"])
    _set_cookie(s, answer, sessions.COOKIE, session, timedelta(hours=s.settings.session_hours))
    answer.delete_cookie(SIGN_IN_COOKIE, path="/sync")
    return answer


def _record_refusal(s: Services, error: TisSyncError) -> None:
    nobody = Actor("?", Channel.SESSION)
    audit.record(s.state, s.clock(), nobody, action="sign in", subject="", outcome=str(error))


def _open_session(s: Services, person: Person, previous: str | None) -> str:
    """Open a session, in place of the one that this browser had; return the cookie."""
    now, user = s.clock(), person.caller
    if previous is not None:
        sessions.close(s.state, previous)
    lifetime = timedelta(hours=s.settings.session_hours)
    cookie = sessions.open_session(s.state, person, lifetime, next_check(s, now), now)
    roles = ", ".join(sorted(user.roles))
    audit.record(s.state, now, user.actor, action="sign in", subject=roles, outcome=audit.DONE)
    return cookie


@router.post("/signout")
async def sign_out(request: Request, s: Servers) -> RedirectResponse:
    """Close the session here and at the provider."""
    provider, cookie = provider_of(request), request.cookies.get(sessions.COOKIE)
    if cookie is not None:
        await run_in_threadpool(_close_session, s, cookie)
    url = None if provider is None else await provider.sign_out_url(_url(s, SIGNED_OUT))
    answer = redirect(url or SIGNED_OUT)
    answer.delete_cookie(sessions.COOKIE, path="/sync")
    return answer


def _close_session(s: Services, cookie: str) -> None:
    now = s.clock()
    session = sessions.find(s.state, cookie, now)
    sessions.close(s.state, cookie)
    if session is not None:
        user = session.caller.actor
        audit.record(s.state, now, user, action="sign out", subject="", outcome=audit.DONE)


@router.get("/signedout")
def signed_out(request: Request) -> HTMLResponse:
    """Say that the session is closed."""
    return page(request, "signed_out.html")
