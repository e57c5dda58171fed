"""API tokens for machines: created on the command line, shown once, stored as a hash, revocable."""

import secrets
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.audit import Channel
from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.state import web_tables as t
from tis_sync.web.auth.identity import Caller, NotSignedInError, Role, roles_of

PREFIX = "tis_"  # so that a leaked token can be found, and recognised as ours
SECRET_BYTES = 32
USED_PRECISION = timedelta(minutes=1)  # of the time of last use, to save writes


@dataclass(frozen=True)
class Token:
    """A token, without its secret."""

    id: str
    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None


def digest(secret: str) -> str:
    """Return the hash that is stored instead of a secret.

    Our secrets are random, so they need neither salt nor a slow hash.
    """
    return sha256(secret.encode()).hexdigest()


def create(state: Database, name: str, role: str, days: int, created_by: str, now: datetime) -> str:
    """Create a token and return its secret, which is stored nowhere.

    Args:
        state: the state database.
        name: unique among all tokens, revoked ones included.
        role: a `Role`.
        days: how long the token is valid.
        created_by: the person.
        now: the current time.

    Raises:
        UsageError: there is no such role, or the name is taken.

    """
    if role not in set(Role):
        raise UsageError(f"There is no role {role!r}; the roles are {', '.join(Role)}.")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    values = {
        "id": str(uuid4()),
        "name": name,
        "hash": digest(secret),
        "role": role,
        "created_at": now,
        "created_by": created_by,
        "expires_at": now + timedelta(days=days),
    }
    try:
        with state.write() as connection:
            connection.execute(sa.insert(t.token).values(values))
    except IntegrityError:
        raise UsageError(
            f"The name {name!r} is taken by another token, which may have been revoked. Choose "
            "another name."
        ) from None
    return secret


def tokens(state: Database) -> list[Token]:
    """All tokens, newest first."""
    columns = [t.token.c[field.name] for field in fields(Token)]
    statement = sa.select(*columns).order_by(t.token.c.created_at.desc(), t.token.c.name)
    with state.read() as connection:
        return [
            Token(**{**row, "role": Role(row["role"])})
            for row in connection.execute(statement).mappings()
        ]


def revoke(state: Database, name: str, now: datetime) -> None:
    """Revoke a token; it is refused from now on.

    Raises:
        NotFoundError: there is no token of that name.

    """
    moment = sa.literal(now, t.token.c.revoked_at.type)
    with state.write() as connection:
        result = connection.execute(
            sa.update(t.token)
            .where(t.token.c.name == name)
            .values(revoked_at=sa.func.coalesce(t.token.c.revoked_at, moment))
        )
    if not result.rowcount:
        raise NotFoundError(f"There is no token {name!r}; `tis-sync token list` lists them.")


def caller_of(state: Database, secret: str, now: datetime) -> Caller:
    """Return the machine that holds a token.

    Raises:
        NotSignedInError: the token is unknown, revoked or expired.

    """
    statement = sa.select(t.token).where(t.token.c.hash == digest(secret))
    with state.read() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotSignedInError("This token is unknown.")
    if row.revoked_at is not None:
        raise NotSignedInError(f"The token {row.name!r} has been revoked.")
    if row.expires_at <= now:
        raise NotSignedInError(f"The token {row.name!r} has expired; create a new one.")
    if row.used_at is None or row.used_at < now - USED_PRECISION:
        with state.write() as connection:
            connection.execute(sa.update(t.token).where(t.token.c.id == row.id).values(used_at=now))
    return Caller(f"token {row.name}", Channel.TOKEN, roles_of(Role(row.role)))
