"""Browser sessions: a random cookie, of which the state database contains the hash.

Every replica knows the sessions that the others opened, and a closed session is closed everywhere.
"""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from tis_sync.audit import Channel
from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.state import web_tables as t
from tis_sync.web.auth.identity import Caller, Role, roles_of
from tis_sync.web.auth.oidc import Person
from tis_sync.web.auth.tokens import digest

COOKIE = "tis_sync_session"
SECRET_BYTES = 32
SIGN_IN_TIME = timedelta(minutes=10)  # between leaving for the provider and coming back
ENCRYPTION = {"alg": "dir", "enc": "A256GCM"}  # of refresh tokens
SHORTEST_ID = 6  # characters of an id that `end` accepts


@dataclass(frozen=True)
class Session:
    """An open session.

    Attributes:
        id: the hash of its cookie, with which nobody can use it.
        caller: who opened it, with the roles that the provider confirmed last.
        created_at: when it was opened. None: unknown.
        checked_at: when the provider last confirmed user and roles. None: never.
        check_at: when the provider has to be asked again. None: at the next request.
        expires_at: when it ends.
        subject: the person at the provider. None: unknown.
        refresh_token: encrypted; `refresh_token_of` decrypts it. None: the provider issued none.

    """

    id: str
    caller: Caller
    created_at: datetime | None
    checked_at: datetime | None
    check_at: datetime | None
    expires_at: datetime
    subject: str | None
    refresh_token: str | None


def begin_sign_in(state: Database, detail: Mapping[str, str], now: datetime) -> str:
    """Store what a sign-in needs until the person comes back; return the value of the cookie."""
    cookie = secrets.token_urlsafe(SECRET_BYTES)
    values = {"user_name": None, "roles": "[]", "detail": json.dumps(dict(detail))}
    _insert(state, cookie, values | {"expires_at": now + SIGN_IN_TIME}, now)
    return cookie


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


def open_session(
    state: Database, person: Person, lifetime: timedelta, check_at: datetime, now: datetime
) -> str:
    """Open a session for somebody who has signed in.

    Args:
        state: the state database.
        person: the person.
        lifetime: how long the session lasts.
        check_at: when the provider has to be asked again.
        now: the current time.

    Returns:
        The value of the cookie.

    """
    cookie = secrets.token_urlsafe(SECRET_BYTES)
    values = _confirmed(person, cookie, check_at, now)
    _insert(state, cookie, values | {"expires_at": now + lifetime, "created_at": now}, now)
    return cookie


def find(state: Database, cookie: str, now: datetime) -> Session | None:
    """Return an open session; None: there is no such session, or it has expired."""
    with state.read() as connection:
        found = connection.execute(_open(now).where(t.session.c.id == digest(cookie)))
        row = found.one_or_none()
    return None if row is None else _session(row)


def open_sessions(state: Database, now: datetime) -> list[Session]:
    """All open sessions, those that were opened last first."""
    statement = _open(now).order_by(t.session.c.created_at.desc(), t.session.c.id)
    with state.read() as connection:
        return [_session(row) for row in connection.execute(statement)]


def claim_check(state: Database, session: Session, until: datetime) -> bool:
    """Take on the next check of a session, unless another request or process has.

    A refresh token can be used once: whoever asks with a used one ends the session at many
    providers.

    Args:
        state: the state database.
        session: the session, as it was read.
        until: when others may take the check on again, if nothing comes of this one.

    """
    unchanged = sa.and_(
        t.session.c.id == session.id,
        t.session.c.check_at.is_(None)
        if session.check_at is None
        else t.session.c.check_at == sa.literal(session.check_at, t.session.c.check_at.type),
    )
    with state.write() as connection:
        updated = connection.execute(sa.update(t.session).where(unchanged).values(check_at=until))
    return bool(updated.rowcount)


def confirm(
    state: Database, cookie: str, person: Person, check_at: datetime, now: datetime
) -> Session | None:
    """Store what the provider says about a session now; None: the session was ended meanwhile."""
    values = _confirmed(person, cookie, check_at, now)
    with state.write() as connection:
        connection.execute(
            sa.update(t.session).where(t.session.c.id == digest(cookie)).values(values)
        )
    return find(state, cookie, now)


def refresh_token_of(session: Session, cookie: str) -> str | None:
    """Return the refresh token of a session; None: there is none, or none that can be decrypted."""
    if session.refresh_token is None:
        return None
    try:
        plain = jwe.decrypt_compact(session.refresh_token, _key(cookie)).plaintext
    except (JoseError, ValueError):
        return None
    return None if plain is None else plain.decode()


def close(state: Database, cookie: str) -> None:
    """Close a session."""
    with state.write() as connection:
        connection.execute(sa.delete(t.session).where(t.session.c.id == digest(cookie)))


def end(
    state: Database, ids: Collection[str], user: str | None, now: datetime, *, everyone: bool
) -> list[Session]:
    """End sessions: whoever uses them has to sign in again.

    Args:
        state: the state database.
        ids: their ids, or the first characters of their ids.
        user: also all sessions of the user of this name.
        now: the current time.
        everyone: also all others.

    Returns:
        The sessions that were ended.

    Raises:
        NotFoundError: there is no session of an id, or none of the user.
        UsageError: an id is too short, or fits several sessions.

    """
    existing = open_sessions(state, now)
    ended = {session.id: session for session in existing if everyone}
    for prefix in ids:
        found = [session for session in existing if session.id.startswith(prefix)]
        if len(prefix) < SHORTEST_ID or len(found) > 1:
            raise UsageError(
                f"The id {prefix!r} may mean several sessions; `tis-sync session list` lists them."
            )
        if not found:
            raise NotFoundError(
                f"There is no session {prefix!r}; `tis-sync session list` lists them."
            )
        ended[found[0].id] = found[0]
    if user is not None:
        of_user = [session for session in existing if session.caller.name == user]
        if not of_user:
            raise NotFoundError(
                f"{user!r} has no session; `tis-sync session list` lists who has one."
            )
        ended |= {session.id: session for session in of_user}
    with state.write() as connection:
        connection.execute(sa.delete(t.session).where(t.session.c.id.in_(ended)))
    return list(ended.values())


def _confirmed(person: Person, cookie: str, check_at: datetime, now: datetime) -> dict[str, Any]:
    """What a row says about a person whom the provider has just confirmed."""
    detail = {"subject": person.subject}
    if person.refresh_token is not None:
        plain = person.refresh_token.encode()
        detail["refresh_token"] = jwe.encrypt_compact(ENCRYPTION, plain, _key(cookie))
    return {
        "user_name": person.caller.name,
        "roles": json.dumps(sorted(person.caller.roles)),
        "detail": json.dumps(detail),
        "checked_at": now,
        "check_at": check_at,
    }


def _key(cookie: str) -> OctKey:
    """The key for what only the holder of the cookie may read; the database cannot derive it."""
    return OctKey.import_key(sha256(b"refresh token:" + cookie.encode()).digest())


def _open(now: datetime) -> sa.Select[Any]:
    return sa.select(t.session).where(
        t.session.c.user_name.is_not(None),
        t.session.c.expires_at > sa.literal(now, t.session.c.expires_at.type),
    )


def _session(row: sa.Row[Any]) -> Session:
    roles = roles_of(*map(Role, json.loads(row.roles)))
    detail = json.loads(row.detail)
    return Session(
        id=row.id,
        caller=Caller(row.user_name, Channel.SESSION, roles),
        created_at=row.created_at,
        checked_at=row.checked_at,
        check_at=row.check_at,
        expires_at=row.expires_at,
        subject=detail.get("subject"),
        refresh_token=detail.get("refresh_token"),
    )


def _insert(state: Database, cookie: str, values: Mapping[str, Any], now: datetime) -> None:
    with state.write() as connection:
        expired = t.session.c.expires_at <= sa.literal(now, t.session.c.expires_at.type)
        connection.execute(sa.delete(t.session).where(expired))
        connection.execute(sa.insert(t.session).values({"id": digest(cookie), **values}))
