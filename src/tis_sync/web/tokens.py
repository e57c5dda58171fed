"""Tokens for machines: made by the command line, shown once, kept as a hash, revocable."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.errors import NotFoundError, UsageError
from tis_sync.state import web as t
from tis_sync.web.who import ROLES, Caller, NotSignedInError, roles_of

PREFIX = "tis_"  # so that a token that leaked somewhere can be found, and is seen to be ours
SECRET_BYTES = 32
USED_EVERY = timedelta(minutes=1)  # how exactly the time of last use is kept


@dataclass(frozen=True)
class Token:
    """A token, without its secret."""

    id: str
    name: str
    role: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None


def digest(secret: str) -> str:
    """What is kept of a secret: random as it is, it needs no salt and no slow hash."""
    return sha256(secret.encode()).hexdigest()


def create(state: sa.Engine, name: str, role: str, days: int, who: str, now: datetime) -> str:
    """Make a token; its secret is returned, and kept nowhere.

    Raises:
        UsageError: no such role, or the name is taken.

    """
    if role not in ROLES:
        raise UsageError(f"Unknown role {role!r}; there are {' and '.join(ROLES)}.")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    values = {
        "id": str(uuid4()),
        "name": name,
        "hash": digest(secret),
        "role": role,
        "created_at": now,
        "created_by": who,
        "expires_at": now + timedelta(days=days),
    }
    try:
        with state.execution_options(writes=True).begin() as connection:
            connection.execute(sa.insert(t.token).values(values))
    except IntegrityError:
        raise UsageError(
            f"There is, or was, a token {name!r} already; give this one another name."
        ) from None
    return secret


def tokens(state: sa.Engine) -> list[Token]:
    """All tokens, the newest first."""
    columns = [t.token.c[name] for name in Token.__dataclass_fields__]
    statement = sa.select(*columns).order_by(t.token.c.created_at.desc(), t.token.c.name)
    with state.connect() as connection:
        return [Token(**row) for row in connection.execute(statement).mappings()]


def revoke(state: sa.Engine, name: str, now: datetime) -> None:
    """Have a token be refused from now on.

    Raises:
        NotFoundError: there is none of that name.

    """
    with state.execution_options(writes=True).begin() as connection:
        found = connection.execute(
            sa.update(t.token)
            .where(t.token.c.name == name)
            .values(revoked_at=sa.func.coalesce(t.token.c.revoked_at, _moment(now)))
        ).rowcount
    if not found:
        raise NotFoundError(f"There is no token {name!r}; `tis-sync token list` lists them.")


def caller(state: sa.Engine, secret: str, now: datetime) -> Caller:
    """The machine that holds a token.

    Raises:
        NotSignedInError: it is unknown, revoked, or too old.

    """
    with state.connect() as connection:
        known = t.token.c.hash == digest(secret)
        row = connection.execute(sa.select(t.token).where(known)).one_or_none()
    if row is None:
        raise NotSignedInError("This token is not known here.")
    if row.revoked_at is not None:
        raise NotSignedInError(f"The token {row.name!r} was revoked.")
    if row.expires_at <= now:
        raise NotSignedInError(f"The token {row.name!r} has expired; make a new one.")
    if row.used_at is None or row.used_at < now - USED_EVERY:
        with state.execution_options(writes=True).begin() as connection:
            used = sa.update(t.token).where(t.token.c.id == row.id)
            connection.execute(used.values(used_at=now))
    return Caller(f"token {row.name}", "token", roles_of(row.role))


def _moment(now: datetime) -> sa.ColumnElement[datetime]:
    return sa.literal(now, t.token.c.revoked_at.type)
