"""The audit log: who changed what, when, and with what outcome.

An action is recorded before it begins and completed when it has ended, so that an interrupted one
is there too. Entries are only ever added. Each carries a hash over itself and the hash of the entry
before, so that `verify` finds entries that were changed, inserted or removed. Every entry also goes
to the log, with its hash: whoever can write to the state database can replace the whole log, but
not the lines that have left the machine.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError
from tis_sync.logs import get, report
from tis_sync.state import web_tables as t

DONE = "done"
STARTED = "started: it has not ended, or its process has died"
INTERRUPTED = "interrupted: it may have been done in part"
FAILED = "failed: an error in tis-sync; the log contains the traceback"
APPEND_LOCK = 7_436_502  # PostgreSQL advisory lock: entries are added one at a time
LONGEST_NAME = 200  # characters of an actor and of a subject
LOGGER = "tis_sync.audit"
ROWS_READ = 10_000  # at a time


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
    """One action in the audit log; `outcome` is "done", or the reason why not."""

    id: int
    at: datetime
    actor: str
    channel: Channel
    action: str
    subject: str
    detail: str
    outcome: str


@dataclass(frozen=True)
class Verification:
    """The result of a check of the audit log.

    Attributes:
        entries: the entries that carry a hash.
        unprotected: older ones, written by versions without hashes.
        last_id: the id of the last entry with a hash. None: there is none.
        last_hash: its hash; empty if there is none.
        faults: what is wrong, one sentence each; empty if nothing is.

    """

    entries: int
    unprotected: int
    last_id: int | None
    last_hash: str
    faults: tuple[str, ...]


def record(
    state: Database,
    now: datetime,
    actor: Actor,
    action: str,
    subject: str,
    outcome: str,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Add an entry for something that has ended.

    Args:
        state: the state database.
        now: the current time.
        actor: who did it.
        action: what was done or attempted.
        subject: what it was done to.
        outcome: "done", or the reason why not.
        detail: further facts; None and False are left out.

    Returns:
        The id of the entry.

    """
    facts = {name: value for name, value in (detail or {}).items() if value not in (None, False)}
    return _append(
        state,
        at=now,
        actor=_text(actor.name)[:LONGEST_NAME],
        channel=actor.channel.value,
        action=action,
        subject=_text(subject)[:LONGEST_NAME],
        detail=_text(json.dumps(facts, default=str)) if facts else "",
        outcome=_text(outcome),
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
    """Record that the block begins, and then its outcome; arguments as for `record`.

    What the block adds to `detail` is recorded with the outcome. If the beginning cannot be
    recorded, the block does not begin.
    """
    began = time.monotonic()
    before = dict(detail or {})
    entry = record(state, now, actor, action, subject, STARTED, before)
    outcome = INTERRUPTED
    try:
        yield
        outcome = DONE
    except TisSyncError as error:
        outcome = str(error)
        raise
    except Exception:
        outcome = FAILED
        raise
    finally:
        facts = dict(detail or {})
        ended = now + timedelta(seconds=time.monotonic() - began)
        _complete(
            state,
            ended,
            entry,
            actor,
            action,
            _text(subject),
            outcome,
            facts if facts != before else {},
        )


def _complete(
    state: Database,
    now: datetime,
    entry: int,
    actor: Actor,
    action: str,
    subject: str,
    outcome: str,
    detail: Mapping[str, Any],
) -> None:
    """Record the outcome of an action; it has happened, even if that cannot be recorded."""
    try:
        _append(
            state,
            at=now,
            actor=_text(actor.name)[:LONGEST_NAME],
            channel=actor.channel.value,
            action=action,
            subject=subject[:LONGEST_NAME],
            detail=_text(json.dumps(detail, default=str)) if detail else "",
            outcome=_text(outcome),
            completes=entry,
        )
    except TisSyncError as error:
        report("the outcome is not in the audit log", error, entry=entry, outcome=outcome)


def refused(action: str, subject: str, reason: str, actor: str = "unknown") -> None:
    """Log that a request of somebody unknown was refused.

    It does not reach the database: anybody could fill it.
    """
    line = {"action": action, "subject": _text(subject)[:LONGEST_NAME], "outcome": reason}
    get(LOGGER).warning("refused", actor=actor, **line)


def entries(state: Database, limit: int = 100, before: int | None = None) -> list[Entry]:
    """Return the latest actions, newest first.

    Args:
        state: the state database.
        limit: the maximum number of actions.
        before: only actions older than the one with this id.

    """
    end = t.audit.alias("completion")
    columns = [t.audit.c[name] for name in ("id", "at", "actor", "channel", "action", "subject")]
    statement = (
        sa.select(
            *columns,
            sa.func.coalesce(sa.func.nullif(end.c.detail, ""), t.audit.c.detail).label("detail"),
            sa.func.coalesce(end.c.outcome, t.audit.c.outcome).label("outcome"),
        )
        .outerjoin_from(t.audit, end, end.c.completes == t.audit.c.id)
        .where(t.audit.c.completes.is_(None))
        .order_by(t.audit.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(t.audit.c.id < before)
    with state.read() as connection:
        return [
            Entry(**{**row, "channel": Channel(row["channel"])})
            for row in connection.execute(statement).mappings()
        ]


def verify(state: Database, known_hash: str | None = None) -> Verification:
    """Check that no entry was changed, inserted or removed.

    Args:
        state: the state database.
        known_hash: the hash of an entry, from the log or from an earlier check: the entry must
            still be there, unless retention has deleted it. None: whoever has replaced all entries
            after some point is not noticed.

    """
    faults: list[str] = []
    count = unprotected = 0
    last_id: int | None = None
    is_known = known_hash is None
    with state.read() as connection:
        deleted = connection.execute(sa.select(t.audit_start)).first()
        previous = "" if deleted is None else deleted.hash
        is_known = is_known or known_hash == previous
        rows = connection.execution_options(yield_per=ROWS_READ).execute(
            sa.select(t.audit).order_by(t.audit.c.id)
        )
        for row in rows.mappings():
            if row["hash"] is None and not count:
                unprotected += 1
                continue
            if row["hash"] != _hash(previous, row):
                place = (
                    "an entry before it was changed or removed"
                    if count
                    else ("entries before it were removed, and not by retention")
                )
                faults.append(
                    f"Entry {row['id']} ({row['at']:%Y-%m-%d %H:%M} UTC) was changed, or {place}."
                )
            count += 1
            last_id, previous = row["id"], row["hash"] or ""
            is_known = is_known or known_hash == previous
    if not is_known:
        faults.append(
            f"No entry has the hash {known_hash}: the end of the audit log was removed or "
            "replaced, or retention has deleted the entry."
        )
    return Verification(count, unprotected, last_id, previous if count else "", tuple(faults))


def prune(state: Database, now: datetime, days: int) -> int:
    """Delete entries older than this many days; return how many were deleted.

    The hash of the last one is kept, because the next entry builds on it.
    """
    oldest = sa.literal(now - timedelta(days=days), t.audit.c.at.type)
    first_kept = sa.select(sa.func.min(t.audit.c.id)).where(t.audit.c.at >= oldest)
    with state.write() as connection:
        _lock(connection)
        kept = connection.scalar(first_kept)
        old = sa.true() if kept is None else t.audit.c.id < kept
        last = connection.execute(
            sa.select(t.audit.c.id, t.audit.c.hash).where(old).order_by(t.audit.c.id.desc())
        ).first()
        if last is None:
            return 0
        if last.hash is not None:
            connection.execute(sa.delete(t.audit_start))
            connection.execute(sa.insert(t.audit_start).values(id=last.id, hash=last.hash))
        return int(connection.execute(sa.delete(t.audit).where(old)).rowcount)


def _append(state: Database, completes: int | None = None, **values: Any) -> int:
    """Add an entry and return its id; entries are added one at a time, by all processes."""
    with state.write() as connection:
        _lock(connection)
        columns = (t.audit.c.id, t.audit.c.hash)
        last = (
            connection.execute(sa.select(*columns).order_by(t.audit.c.id.desc()).limit(1)).first()
            or connection.execute(sa.select(t.audit_start.c.id, t.audit_start.c.hash)).first()
        )
        row = {"id": 1 if last is None else last.id + 1, "completes": completes, **values}
        row["hash"] = _hash("" if last is None else last.hash or "", row)
        connection.execute(sa.insert(t.audit).values(row))
    get(LOGGER).info(
        "audit",
        entry=row["id"],
        completes=completes,
        hash=row["hash"],
        **{name: row[name] for name in ("actor", "channel", "action", "subject", "outcome")},
        detail=row["detail"] or None,
    )
    return int(row["id"])


def _lock(connection: sa.Connection) -> None:
    """Wait until no other process adds or deletes entries; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(APPEND_LOCK)))


def _hash(previous: str, row: Mapping[Any, Any]) -> str:
    names = ("id", "actor", "channel", "action", "subject", "detail", "outcome", "completes")
    fields = [previous, row["at"].astimezone(UTC).isoformat(), *(row[name] for name in names)]
    return sha256(json.dumps(fields).encode()).hexdigest()


def _text(text: str) -> str:
    """Return text that every database can store."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
