"""The check of a session: from time to time, the provider confirms the person and the roles."""

from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool

from tis_sync import audit
from tis_sync.errors import UnreachableError
from tis_sync.logs import get, reason_of
from tis_sync.runs.services import Services
from tis_sync.web.auth import sessions
from tis_sync.web.auth.identity import Caller, NotAllowedError, NotSignedInError
from tis_sync.web.auth.oidc import Person, Provider
from tis_sync.web.auth.sessions import Session

# How long a session continues while the provider does not answer, and how often it is asked then.
GRACE = timedelta(hours=1)
RETRY = timedelta(minutes=1)
SIGN_IN_AGAIN = "The provider has to confirm your session. Sign in again."


def next_check(s: Services, now: datetime) -> datetime:
    """When a session that was confirmed now has to be confirmed again."""
    return now + timedelta(minutes=s.settings.session_check_minutes)


async def caller_of(s: Services, provider: Provider, cookie: str) -> Caller:
    """Return the caller of an open session; ask the provider first if that is due.

    Raises:
        NotSignedInError: there is no such session, or it has ended, or the browser has to lead the
            person to the provider.
        UnreachableError: the provider has not confirmed the session for too long.

    """
    now = s.clock()
    session = await run_in_threadpool(sessions.find, s.state, cookie, now)
    if session is None:
        raise NotSignedInError("Sign in, or send a token: Authorization: Bearer TOKEN.")
    if session.check_at is not None and now < session.check_at:
        return session.caller
    return await _checked(s, provider, cookie, session, now)


async def _checked(
    s: Services, provider: Provider, cookie: str, session: Session, now: datetime
) -> Caller:
    refresh_token = sessions.refresh_token_of(session, cookie)
    if refresh_token is None or session.subject is None:
        raise NotSignedInError(SIGN_IN_AGAIN)
    until = now + max(RETRY, timedelta(seconds=2 * s.settings.oidc_timeout_seconds))
    if not await run_in_threadpool(sessions.claim_check, s.state, session, until):
        return session.caller  # another request asks
    try:
        person = await provider.refresh(session.subject, refresh_token)
    except (NotSignedInError, NotAllowedError) as error:
        await run_in_threadpool(_end, s, cookie, session, str(error))
        raise NotSignedInError(str(error)) from None
    except UnreachableError as error:
        get().warning("session not confirmed", reason=reason_of(error))
        if session.checked_at is None or now - session.checked_at > GRACE:
            raise
        return session.caller
    confirmed = await run_in_threadpool(_confirm, s, cookie, session, person)
    if confirmed is None:
        raise NotSignedInError("The session has ended. Sign in again.")
    return confirmed.caller


def _confirm(s: Services, cookie: str, session: Session, person: Person) -> Session | None:
    now = s.clock()
    confirmed = sessions.confirm(s.state, cookie, person, next_check(s, now), now)
    if person.caller.roles != session.caller.roles:
        roles = ", ".join(sorted(person.caller.roles))
        actor = person.caller.actor
        audit.record(s.state, now, actor, "change roles", roles, audit.DONE)
    return confirmed


def _end(s: Services, cookie: str, session: Session, reason: str) -> None:
    sessions.close(s.state, cookie)
    actor = session.caller.actor
    audit.record(s.state, s.clock(), actor, "end session", session.caller.name, reason)
