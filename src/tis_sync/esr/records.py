"""Records: one placement at one position, with its state on the way to ESR, and its history."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.esr.calendar import earliest_start, london_day, next_due
from tis_sync.esr.deaneries import FileType
from tis_sync.state import esr_tables as t

NO_CONTENT = "{}"  # the content of a record or line that was deleted, by retention or on request


class RecordState(StrEnum):
    """The state of a record on its way to ESR."""

    TO_EXPORT = "TO_EXPORT"  # goes into the next file of its deanery
    EXPORTED = "EXPORTED"  # in a file that was reported to TCS; never sent again
    INVALID_DATA = "INVALID_DATA"  # values are missing or wrong; the reason lists all of them
    DELETED_BEFORE_EXPORT = "DELETED_BEFORE_EXPORT"  # ceased to be eligible before it was sent


class RecordOrigin(StrEnum):
    """Who derived a record."""

    TCS = "tcs"  # we did, from TCS
    MESSAGE = "message"  # another system did, and sent it to us through the broker


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        id: placement-position-number.
        placement_id, position_id, position_number, post_id: keys of TCS and ESR.
        post_number: the national post number.
        deanery: the code of its deanery; None if the post number names no deanery.
        start: the first day of the placement.
        content: the values of the applicant's line, by column of the layout.
        state: its state.
        reason: why it is INVALID_DATA or DELETED_BEFORE_EXPORT.
        postponed: why the last file left it for the next one; None if it did not.
        origin: who derived it.
        file: the file that contains it, or for which it is claimed.
        cause: the generation, command or message that last changed its state.
        created_at, changed_at: UTC.

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
    state: RecordState
    reason: str | None
    postponed: str | None
    origin: RecordOrigin
    file: str | None
    cause: str
    created_at: datetime
    changed_at: datetime

    @property
    def name(self) -> str:
        """The person's name, as it is sent to ESR."""
        if not self.content:
            return "content deleted"  # by retention, or on request
        parts = (self.content.get("firstName"), self.content.get("lastName"))
        return " ".join(part for part in parts if part) or "no name"


@dataclass(frozen=True)
class RecordChange:
    """One change of a record's state.

    Attributes:
        record_id: the record.
        at: when, UTC.
        state: the new state.
        reason: why the record has this state, if there is a reason.
        cause: the generation, command or message that changed it.

    """

    record_id: str
    at: datetime
    state: RecordState
    reason: str | None
    cause: str


def find_records(
    state: Database,
    *,
    states: Collection[str] = (),
    deaneries: Collection[str] = (),
    placement: int | None = None,
    limit: int | None = 100,
    after: str | None = None,
) -> list[Record]:
    """Find records, earliest start date first.

    Args:
        state: the state database.
        states: only records in these states. Empty: any state.
        deaneries: only records of these deaneries. Empty: any deanery.
        placement: only records of this placement.
        limit: the maximum number. None: all.
        after: only records after the one with this id.

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


def count_records(state: Database) -> dict[tuple[str, RecordState], int]:
    """The number of records by deanery ("?" if unknown) and state."""
    columns = (t.record.c.deanery, t.record.c.state)
    statement = sa.select(*columns, sa.func.count()).group_by(*columns)
    with state.read() as connection:
        rows = connection.execute(statement).all()
    return {(deanery or "?", RecordState(text)): count for deanery, text, count in rows}


def record_history(state: Database, ids: Collection[str]) -> list[RecordChange]:
    """The state changes of records, oldest first."""
    statement = sa.select(t.change).where(t.change.c.record_id.in_(ids)).order_by(t.change.c.id)
    with state.read() as connection:
        rows = connection.execute(statement).all()
    return [
        RecordChange(row.record_id, row.at, RecordState(row.state), row.reason, row.cause)
        for row in rows
    ]


def records_at_risk(state: Database, now: datetime) -> list[Record]:
    """Unsent records that the next export cannot include, because they start too soon."""
    next_day = london_day(next_due(FileType.APP, now))
    unsent = sa.and_(
        t.record.c.state.in_([RecordState.TO_EXPORT, RecordState.INVALID_DATA]),
        t.record.c.file.is_(None),
    )
    too_soon = t.record.c.start < earliest_start(next_day)
    statement = sa.select(t.record).where(unsent, too_soon)
    return _records(state, statement.order_by(t.record.c.start, t.record.c.id))


def _records(state: Database, statement: sa.Select[Any]) -> list[Record]:
    with state.read() as connection:
        rows = connection.execute(statement).mappings().all()
    return [
        Record(
            **{
                **row,
                "content": json.loads(row["content"]),
                "state": RecordState(row["state"]),
                "origin": RecordOrigin(row["origin"]),
            }
        )
        for row in rows
    ]
