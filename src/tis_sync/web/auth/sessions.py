"""Browser sessions: a random cookie, of which the state database contains the hash.

Every replica knows the sessions that the others opened, and a closed session is closed everywhere.
"""

import json
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.audit import Channel
from tis_sync.db.database import Database
from tis_sync.state import web_tables as t
from tis_sync.web.auth.identity import Caller, Role
from tis_sync.web.auth.tokens import digest

COOKIE = "tis_sync_session"
SECRET_BYTES = 32
SIGN_IN_TIME = timedelta(minutes=10)  # between leaving for the provider and coming back


def begin_sign_in(state: Database, detail: Mapping[str, str], now: datetime) -> str:
    """Store what a sign-in needs until the person comes back; return the value of the cookie."""
    return _insert(state, None, (), detail, now + SIGN_IN_TIME, now)


def take_sign_in(state: Database, cookie: str, now: datetime) -> dict[str, str] | None:
    """Return what `begin_sign_in` stored, and delete it; None: nothing, or it has expired."""
    pending = sa.and_(t.session.c.id == digest(cookie), t.session.c.user_name.is_(None))
    with state.write() as connection:
        row = connection.execute(sa.select(t.session).where(pending)).one_or_none()
        connection.execute(sa.delete(t.session).where(pending))
    if row is None or row.expires_at <= now:
        return None
    detail: dict[str, str] = json.loads(row.detail)
    return detail


def open_session(state: Database, caller: Caller, lifetime: timedelta, now: datetime) -> str:
    """Open a session for somebody who has signed in; return the value of the cookie."""
    return _insert(state, caller.name, caller.roles, {}, now + lifetime, now)


def caller_of(state: Database, cookie: str, now: datetime) -> Caller | None:
    """Return the caller of an open session; None: there is no such session, or it has expired."""
    statement = sa.select(t.session).where(
        t.session.c.id == digest(cookie),
        t.session.c.user_name.is_not(None),
        t.session.c.expires_at > sa.literal(now, t.session.c.expires_at.type),
    )
    with state.read() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return Caller(row.user_name, Channel.SESSION, frozenset(map(Role, json.loads(row.roles))))


def close(state: Database, cookie: str) -> None:
    """Close a session."""
    with state.write() as connection:
        connection.execute(sa.delete(t.session).where(t.session.c.id == digest(cookie)))


def _insert(
    state: Database,
    user_name: str | None,
    roles: Collection[Role],
    detail: Mapping[str, str],
    expires_at: datetime,
    now: datetime,
) -> str:
    cookie = secrets.token_urlsafe(SECRET_BYTES)
    values = {
        "id": digest(cookie),
        "user_name": user_name,
        "roles": json.dumps(sorted(roles)),
        "detail": json.dumps(dict(detail)),
        "expires_at": expires_at,
    }
    with state.write() as connection:
        expired = t.session.c.expires_at <= sa.literal(now, t.session.c.expires_at.type)
        connection.execute(sa.delete(t.session).where(expired))
        connection.execute(sa.insert(t.session).values(values))
    return cookie
