"""Who is signed in by browser: a random cookie, of which our state keeps the hash.

Any replica knows a session that another one opened, and a session that is ended is over everywhere.
"""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.state import web as t
from tis_sync.web.tokens import digest
from tis_sync.web.who import Caller

COOKIE = "tis_sync_session"
SECRET_BYTES = 32
SIGN_IN_TIME = timedelta(minutes=10)  # between leaving for the provider and coming back


def begin(state: sa.Engine, detail: Mapping[str, str], now: datetime) -> str:
    """Remember what a sign-in under way needs; returns what the cookie is to say."""
    return _insert(state, None, (), detail, now + SIGN_IN_TIME, now)


def under_way(state: sa.Engine, cookie: str, now: datetime) -> dict[str, str] | None:
    """What `begin` remembered, once; None: nothing, or too long ago."""
    with state.execution_options(writes=True).begin() as connection:
        mine = sa.and_(t.session.c.id == digest(cookie), t.session.c.who.is_(None))
        row = connection.execute(sa.select(t.session).where(mine)).one_or_none()
        connection.execute(sa.delete(t.session).where(mine))
    if row is None or row.expires_at <= now:
        return None
    found: dict[str, str] = json.loads(row.detail)
    return found


def open_(state: sa.Engine, caller: Caller, lasts: timedelta, now: datetime) -> str:
    """Somebody has signed in; returns what the cookie is to say."""
    return _insert(state, caller.name, sorted(caller.roles), {}, now + lasts, now)


def read(state: sa.Engine, cookie: str, now: datetime) -> Caller | None:
    """Who the cookie belongs to; None: nobody, or not any more."""
    mine = sa.and_(
        t.session.c.id == digest(cookie),
        t.session.c.who.is_not(None),
        t.session.c.expires_at > sa.literal(now, t.session.c.expires_at.type),
    )
    with state.connect() as connection:
        row = connection.execute(sa.select(t.session).where(mine)).one_or_none()
    return None if row is None else Caller(row.who, "session", frozenset(json.loads(row.roles)))


def close(state: sa.Engine, cookie: str) -> None:
    """End a session."""
    with state.execution_options(writes=True).begin() as connection:
        connection.execute(sa.delete(t.session).where(t.session.c.id == digest(cookie)))


def _insert(
    state: sa.Engine,
    who: str | None,
    roles: list[str] | tuple[str, ...],
    detail: Mapping[str, str],
    expires_at: datetime,
    now: datetime,
) -> str:
    cookie = secrets.token_urlsafe(SECRET_BYTES)
    values = {
        "id": digest(cookie),
        "who": who,
        "roles": json.dumps(list(roles)),
        "detail": json.dumps(dict(detail)),
        "expires_at": expires_at,
    }
    with state.execution_options(writes=True).begin() as connection:
        over = t.session.c.expires_at <= sa.literal(now, t.session.c.expires_at.type)
        connection.execute(sa.delete(t.session).where(over))
        connection.execute(sa.insert(t.session).values(values))
    return cookie
