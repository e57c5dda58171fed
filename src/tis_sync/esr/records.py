"""Looking at records: by state, deanery and placement; those at risk; their history."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from tis_sync.esr.deaneries import APP, london_day, next_due
from tis_sync.esr.eligible import earliest_start
from tis_sync.esr.plan import INVALID, TO_EXPORT
from tis_sync.state import esr as t


@dataclass(frozen=True)
class Record:
    """A record: one placement at one position, and how far it is on its way to ESR.

    Attributes:
        id: placement-position-number.
        start: when the placement starts.
        content: what ESR is told, by the sources of the layout.
        state: TO_EXPORT, EXPORTED, INVALID_DATA or DELETED_BEFORE_EXPORT.
        reason: why it is INVALID_DATA or DELETED_BEFORE_EXPORT.
        held: why the last file left it for the next one.
        source: "tcs", or "message": somebody else derived it and sent it by the broker.
        file: the file that it is in, or is being written to.

    """

    id: str
    placement_id: int
    position_id: int
    position_number: int
    post_id: int
    post_number: str | None
    deanery: str | None
    start: date
    content: dict[str, str | None]
    state: str
    reason: str | None
    held: str | None
    source: str
    file: str | None
    cause: str
    created_at: datetime
    changed_at: datetime

    @property
    def name(self) -> str:
        """The person's name, as ESR is told it."""
        parts = (self.content.get("firstName"), self.content.get("lastName"))
        return " ".join(part for part in parts if part) or "(no name)"


@dataclass(frozen=True)
class Change:
    """One change of a record's state: when, to which, why, and by which generation or command."""

    record_id: str
    at: datetime
    state: str
    reason: str | None
    cause: str


def records(
    state: sa.Engine,
    *,
    states: Sequence[str] = (),
    deaneries: Sequence[str] = (),
    placement: int | None = None,
    limit: int | None = 100,
    after: str | None = None,
) -> list[Record]:
    """Records, those that start first in front.

    Args:
        state: our state database.
        states: only these states; none: all.
        deaneries: only these deaneries; none: all.
        placement: only those of this placement.
        limit: so many at the most.
        after: only those behind the record of this id.

    """
    statement = sa.select(t.record).order_by(t.record.c.start, t.record.c.id).limit(limit)
    if after is not None:
        before = sa.select(t.record.c.start).where(t.record.c.id == after).scalar_subquery()
        same_day = sa.and_(t.record.c.start == before, t.record.c.id > after)
        statement = statement.where(sa.or_(t.record.c.start > before, same_day))
    if states:
        statement = statement.where(t.record.c.state.in_(states))
    if deaneries:
        statement = statement.where(t.record.c.deanery.in_(deaneries))
    if placement is not None:
        statement = statement.where(t.record.c.placement_id == placement)
    return _records(state, statement)


def _records(state: sa.Engine, statement: sa.Select[Any]) -> list[Record]:
    with state.connect() as connection:
        rows = connection.execute(statement).mappings().all()
    return [Record(**{**row, "content": json.loads(row["content"])}) for row in rows]


def counts(state: sa.Engine) -> dict[tuple[str, str], int]:
    """How many records there are, by deanery ("?": none known) and state."""
    columns = (t.record.c.deanery, t.record.c.state)
    statement = sa.select(*columns, sa.func.count()).group_by(*columns)
    with state.connect() as connection:
        return {(row[0] or "?", row[1]): row[2] for row in connection.execute(statement)}


def history(state: sa.Engine, ids: Sequence[str]) -> list[Change]:
    """The changes of records, oldest first."""
    statement = sa.select(t.change).where(t.change.c.record_id.in_(ids)).order_by(t.change.c.id)
    with state.connect() as connection:
        rows = connection.execute(statement).mappings().all()
    return [Change(**{k: v for k, v in row.items() if k != "id"}) for row in rows]


def at_risk(state: sa.Engine, now: datetime) -> list[Record]:
    """Unsent records that the next export can no longer hold: by then they start too soon."""
    next_day = london_day(next_due(APP, now))
    unsent = sa.and_(t.record.c.state.in_([TO_EXPORT, INVALID]), t.record.c.file.is_(None))
    too_soon = t.record.c.start < earliest_start(next_day)
    statement = sa.select(t.record).where(unsent, too_soon)
    return _records(state, statement.order_by(t.record.c.start, t.record.c.id))
