"""The audit log: who changed what, when, and with what outcome."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError
from tis_sync.state import web_tables as t

DONE = "done"
INTERRUPTED = "interrupted: it may have been done in part"


class Channel(StrEnum):
    """How an actor reached us, and how we know who it is."""

    SESSION = "session"  # a person who signed in with a browser
    BEARER = "bearer"  # a token of the sign-in provider
    TOKEN = "token"  # noqa: S105  a token of ours
    LOCAL = "local"  # this machine, where no sign-in provider is configured
    COMMAND_LINE = "command line"
    MESSAGE = "message"  # the broker


@dataclass(frozen=True)
class Actor:
    """A person, a machine or a system that does something.

    Attributes:
        name: who it is, for the history and the audit log.
        channel: how it reached us.

    """

    name: str
    channel: Channel


@dataclass(frozen=True)
class Entry:
    """One line of the audit log; `outcome` is "done", or the reason why not."""

    id: int
    at: datetime
    actor: str
    channel: Channel
    action: str
    subject: str
    detail: str
    outcome: str


def record(
    state: Database,
    now: datetime,
    actor: Actor,
    action: str,
    subject: str,
    outcome: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line.

    Args:
        state: the state database.
        now: the current time.
        actor: who did it.
        action: what was done or attempted.
        subject: what it was done to.
        outcome: "done", or the reason why not.
        detail: further facts; None and False are left out.

    """
    facts = {name: value for name, value in (detail or {}).items() if value not in (None, False)}
    with state.write() as connection:
        connection.execute(
            sa.insert(t.audit).values(
                at=now,
                actor=actor.name[:200],
                channel=actor.channel,
                action=action,
                subject=subject[:200],
                detail=json.dumps(facts, default=str) if facts else "",
                outcome=outcome,
            )
        )


@contextmanager
def audited(
    state: Database,
    now: datetime,
    actor: Actor,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Record the outcome of the block; arguments as for `record`."""
    outcome = INTERRUPTED
    try:
        yield
        outcome = DONE
    except TisSyncError as error:
        outcome = str(error)
        raise
    except Exception:
        outcome = "failed: an error in tis-sync; the log contains the traceback"
        raise
    finally:
        record(state, now, actor, action, subject, outcome, detail)


def entries(state: Database, limit: int = 100, before: int | None = None) -> list[Entry]:
    """Return the latest lines, newest first.

    Args:
        state: the state database.
        limit: the maximum number of lines.
        before: only lines older than the one with this id.

    """
    statement = sa.select(t.audit).order_by(t.audit.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(t.audit.c.id < before)
    with state.read() as connection:
        return [
            Entry(**{**row, "channel": Channel(row["channel"])})
            for row in connection.execute(statement).mappings()
        ]


def prune(state: Database, now: datetime, days: int) -> int:
    """Delete lines older than this many days; return how many were deleted."""
    oldest = sa.literal(now - timedelta(days=days), t.audit.c.at.type)
    with state.write() as connection:
        return int(connection.execute(sa.delete(t.audit).where(t.audit.c.at < oldest)).rowcount)
