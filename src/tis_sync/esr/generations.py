"""The generations: when records were brought up to date with TCS, and what that changed."""

import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

import sqlalchemy as sa

from tis_sync.errors import TisSyncError
from tis_sync.esr.deaneries import APP, london_day
from tis_sync.esr.eligible import earliest_start
from tis_sync.esr.generate import generate
from tis_sync.esr.late import Late, announce, too_late
from tis_sync.esr.sources import layout_of
from tis_sync.logs import get
from tis_sync.runs.services import Services
from tis_sync.state import esr as t

_one_at_a_time = threading.Lock()  # of this process; others do no harm, only the same work again


@dataclass(frozen=True)
class Generation:
    """One generation; counts are None until it has ended, or where it failed."""

    id: str
    trigger: str
    who: str
    started_at: datetime
    finished_at: datetime | None
    eligible: int | None
    added: int | None
    changed: int | None
    removed: int | None
    invalid: int | None
    error: str | None


def bring_up_to_date(
    s: Services, *, trigger: str, who: str, since: datetime | None = None
) -> Generation:
    """Derive the records from TCS once more.

    Args:
        s: the servers.
        trigger: "schedule", "manual" or "export".
        who: the person, or the process.
        since: a generation that began at this moment or later, and succeeded, will do.

    Raises:
        UsageError: the layout is wrong.
        UnreachableError, SourceError: TCS or our state does not answer.

    """
    with _one_at_a_time:
        if since is not None and (fresh := _succeeded(s.state, since)) is not None:
            return fresh
        generation_id = str(uuid4())
        now = s.clock()
        with s.state.execution_options(writes=True).begin() as connection:
            connection.execute(
                sa.insert(t.generation).values(
                    id=generation_id, trigger=trigger, who=who, started_at=now
                )
            )
        try:
            made = generate(
                s.state,
                s.tcs(),
                layout_of(APP, s.settings),
                s.settings.esr_deaneries,
                london_day(now),
                now,
                generation_id,
            )
        except TisSyncError as error:
            _end(s, generation_id, error=str(error))
            raise
        for record in made.set_aside:
            get().warning("set aside", record=str(record))
        counts = {
            name: getattr(made, name)
            for name in ("eligible", "added", "changed", "removed", "invalid")
        }
        _end(s, generation_id, **counts)
        announce(s, _too_late(s, london_day(now)))
        get().info("records generated", trigger=trigger, **counts)
        return _get(s.state, generation_id)


def _too_late(s: Services, day: date) -> list[Late]:
    """Placements too late for any export; not those that were so when this exporter began."""
    begun = first_start(s.state)
    assert begun is not None
    first = earliest_start(london_day(begun))
    found = too_late(s.state, s.tcs(), s.settings.esr_deaneries, day)
    return [late for late in found if late.start >= first]


def _end(s: Services, generation_id: str, **values: object) -> None:
    with s.state.execution_options(writes=True).begin() as connection:
        connection.execute(
            sa.update(t.generation)
            .where(t.generation.c.id == generation_id)
            .values(finished_at=s.clock(), **values)
        )


def _get(state: sa.Engine, generation_id: str) -> Generation:
    with state.connect() as connection:
        row = connection.execute(
            sa.select(t.generation).where(t.generation.c.id == generation_id)
        ).mappings().one()  # fmt: skip
    return Generation(**row)


def _succeeded(state: sa.Engine, since: datetime) -> Generation | None:
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
    with state.connect() as connection:
        row = connection.execute(newest).mappings().first()
    return None if row is None else Generation(**row)


def first_start(state: sa.Engine) -> datetime | None:
    """When the first generation began: since when this installation exports."""
    with state.connect() as connection:
        first: datetime | None = connection.scalar(
            sa.select(sa.func.min(t.generation.c.started_at))
        )
    return first


def last_success(state: sa.Engine) -> Generation | None:
    """The newest generation that succeeded."""
    return _succeeded(state, datetime(1970, 1, 1, tzinfo=UTC))
