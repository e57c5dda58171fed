"""Generations: refreshes of the records from TCS, and what each of them changed."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError
from tis_sync.esr.applicants.generate import generate
from tis_sync.esr.applicants.too_late import check_too_late
from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.logs import get
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t

# Generations in other processes do no harm, but several in one process would repeat the same work.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Generation:
    """One generation; the counts are None until it has succeeded."""

    id: str
    trigger: Trigger
    requested_by: str
    started_at: datetime
    finished_at: datetime | None
    eligible: int | None
    added: int | None
    changed: int | None
    removed: int | None
    invalid: int | None
    error: str | None


def refresh_records(
    s: Services, *, trigger: Trigger, requested_by: str, since: datetime | None = None
) -> Generation:
    """Derive the records from TCS again.

    Args:
        s: settings, clock and servers.
        trigger: what requests it.
        requested_by: the person or the process.
        since: if a generation that began at or after this time has succeeded, it is returned
            instead.

    Raises:
        UsageError: the layout is invalid.
        UnreachableError, SourceError: TCS or the state database does not answer.

    """
    with _one_at_a_time:
        if since is not None and (recent := _succeeded(s.state, since)) is not None:
            return recent
        generation_id = str(uuid4())
        now = s.clock()
        with s.state.write() as connection:
            connection.execute(
                sa.insert(t.generation).values(
                    id=generation_id, trigger=trigger, requested_by=requested_by, started_at=now
                )
            )
        try:
            result = generate(
                s.state,
                s.tcs(),
                layout_of(FileType.APP, s.settings),
                s.settings.esr_deaneries,
                london_day(now),
                now,
                generation_id,
            )
        except TisSyncError as error:
            _end(s, generation_id, error=str(error))
            raise
        for record in result.set_aside:
            get().warning("set aside", **record.without_value())
        counts = {
            "eligible": result.eligible,
            "added": result.added,
            "changed": result.changed,
            "removed": result.removed,
            "invalid": result.invalid,
        }
        _end(s, generation_id, **counts)
        began = first_generation_at(s.state)
        assert began is not None
        check_too_late(s, london_day(began), london_day(now))
        get().info("records refreshed", trigger=trigger, **counts)
        return _get(s.state, generation_id)


def first_generation_at(state: Database) -> datetime | None:
    """When the first generation began, and so the export here; None if there was none."""
    with state.read() as connection:
        first: datetime | None = connection.scalar(
            sa.select(sa.func.min(t.generation.c.started_at))
        )
    return first


def last_success(state: Database) -> Generation | None:
    """The latest generation that succeeded."""
    return _succeeded(state, datetime(1970, 1, 1, tzinfo=UTC))


def _end(s: Services, generation_id: str, **values: object) -> None:
    with s.state.write() as connection:
        connection.execute(
            sa.update(t.generation)
            .where(t.generation.c.id == generation_id)
            .values(finished_at=s.clock(), **values)
        )


def _get(state: Database, generation_id: str) -> Generation:
    statement = sa.select(t.generation).where(t.generation.c.id == generation_id)
    with state.read() as connection:
        return _generation(connection.execute(statement).mappings().one())


def _succeeded(state: Database, since: datetime) -> Generation | None:
    newest = (
        sa.select(t.generation)
        .where(
            t.generation.c.started_at >= since,
            t.generation.c.finished_at.is_not(None),
            t.generation.c.error.is_(None),
        )
        .order_by(t.generation.c.started_at.desc())
        .limit(1)
    )
    with state.read() as connection:
        row = connection.execute(newest).mappings().first()
    return None if row is None else _generation(row)


def _generation(row: sa.RowMapping) -> Generation:
    return Generation(**{**row, "trigger": Trigger(row["trigger"])})
