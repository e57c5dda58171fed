"""Signing in and out by browser: to the provider and back, and a session of our own."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services
from tis_sync.web import audit, sessions
from tis_sync.web.depends import Servers, provider_of
from tis_sync.web.pages.common import see
from tis_sync.web.templates import page
from tis_sync.web.who import NotSignedInError

router = APIRouter(include_in_schema=False)
START = "/sync/"
SIGN_IN_COOKIE = "tis_sync_signin"


def _here(s: Services, path: str) -> str:
    """A URL of ours, as browsers reach it."""
    assert s.settings.web_url is not None
    return s.settings.web_url + path


def _set(s: Services, answer: Response, name: str, value: str, lasts: timedelta) -> None:
    secure = (s.settings.web_url or "").startswith("https:")
    answer.set_cookie(
        name, value, max_age=int(lasts.total_seconds()), path="/sync", secure=secure,
        httponly=True, samesite="lax",
    )  # fmt: skip


@router.get("/signin")
def sign_in(
    request: Request,
    s: Servers,
    next_: Annotated[str, Query(alias="next", max_length=2000)] = START,
) -> Response:
    """Go to the provider."""
    provider = provider_of(request)
    if provider is None:
        return see(START)
    departure = provider.departure(_here(s, "/sync/signin/done"))
    # Only to a page of ours: another address would make us lead people anywhere.
    aim = next_ if urlsplit(next_)[:2] == ("", "") and next_.startswith(START) else START
    cookie = sessions.begin(s.state, departure.remembered | {"next": aim}, s.clock())
    answer = see(departure.url)
    _set(s, answer, SIGN_IN_COOKIE, cookie, sessions.SIGN_IN_TIME)
    return answer


@router.get("/signin/done")
def signed_in(request: Request, s: Servers) -> Response:
    """Come back from the provider: open a session."""
    provider = provider_of(request)
    cookie = request.cookies.get(SIGN_IN_COOKIE)
    now = s.clock()
    remembered = None if cookie is None else sessions.under_way(s.state, cookie, now)
    if provider is None or remembered is None:
        return page(
            request, "error.html", status_code=400, title="Sign in again",
            detail="This sign-in did not begin here, or took too long.",
        )  # fmt: skip
    url = f"{_here(s, '/sync/signin/done')}?{request.url.query}"
    try:
        who = provider.arrival(_here(s, "/sync/signin/done"), url, remembered)
    except TisSyncError as error:
        audit.record(
            s.state, now, who="?", how="session", action="sign in", subject="", outcome=str(error)
        )
        if isinstance(error, NotSignedInError):
            # Not led to the provider again: that could go round for ever.
            return page(
                request, "error.html", status_code=401, title="Not signed in", detail=str(error)
            )
        raise
    lasts = timedelta(hours=s.settings.session_hours)
    answer = see(remembered["next"])
    _set(s, answer, sessions.COOKIE, sessions.open_(s.state, who, lasts, now), lasts)
    answer.delete_cookie(SIGN_IN_COOKIE, path="/sync")
    audit.record(
        s.state, now, who=who.name, how=who.how, action="sign in",
        subject=", ".join(sorted(who.roles)), outcome=audit.DONE,
    )  # fmt: skip
    return answer


@router.post("/signout")
def sign_out(request: Request, s: Servers) -> RedirectResponse:
    """End the session here, and at the provider."""
    provider, cookie = provider_of(request), request.cookies.get(sessions.COOKIE)
    who = None if cookie is None else sessions.read(s.state, cookie, s.clock())
    if cookie is not None and who is not None:
        sessions.close(s.state, cookie)
        audit.record(
            s.state, s.clock(), who=who.name, how=who.how, action="sign out", subject="",
            outcome=audit.DONE,
        )  # fmt: skip
    bye = None if provider is None else provider.farewell(_here(s, "/sync/signedout"))
    answer = see(bye or "/sync/signedout")
    answer.delete_cookie(sessions.COOKIE, path="/sync")
    return answer


@router.get("/signedout")
def signed_out(request: Request) -> HTMLResponse:
    """Say that it is over."""
    return page(request, "signed_out.html")
