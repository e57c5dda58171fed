"""Why alarms of the export are closed: what became of the records and files that they were about.

That a record is no longer TO_EXPORT does not mean that it was sent: it may have become too late for
that, or the placement may have been withdrawn.
"""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa

from tis_sync.alarms.catalogue import Resolution
from tis_sync.alarms.store import RESOLVED, Alarm, Closing
from tis_sync.db.database import Database
from tis_sync.esr.calendar import earliest_start, last_due, london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.records import RecordState
from tis_sync.state import esr_tables as t

NAMED = 5  # placements that a closing text names; all of them are counted
UNKNOWN = "?"  # the deanery of a record without one


def closing_of_records(state: Database, before: Collection[RecordState], alarm: Alarm) -> Closing:
    """Return why an alarm about the records of a deanery is closed.

    Args:
        state: the state database.
        before: the states that the alarm is about.
        alarm: the alarm; its subject is the deanery.

    Returns:
        Expired if it became too late for a record; superseded if a record was withdrawn, or its
        data became invalid; otherwise resolved.

    """
    ended = {RecordState.DELETED_BEFORE_EXPORT, RecordState.INVALID_DATA} - set(before)
    deanery = None if alarm.subject == UNKNOWN else alarm.subject
    columns = (t.record.c.id, t.record.c.placement_id, t.record.c.start, t.record.c.state)
    statement = (
        sa.select(*columns, t.record.c.changed_at)
        .where(
            t.record.c.state.in_(sorted(ended)),
            t.record.c.deanery.is_not_distinct_from(deanery),
            t.record.c.changed_at >= alarm.raised_at,
        )
        .order_by(t.record.c.start, t.record.c.placement_id)
    )
    with state.read() as connection:
        rows = connection.execute(statement).all()
        previous = _previous_states(connection, [row.id for row in rows])
    rows = [row for row in rows if previous.get(row.id) in before]
    late: list[int] = []
    others: list[int] = []
    for row in rows:
        is_deleted = row.state == RecordState.DELETED_BEFORE_EXPORT
        is_late = row.start < earliest_start(london_day(row.changed_at))
        (late if is_deleted and is_late else others).append(row.placement_id)
    if late:
        text = f"It became too late to send {_named(late)}. Tell the trusts."
        return Closing(Resolution.EXPIRED, text)
    if others:
        text = f"What was left was withdrawn, or its data became invalid: {_named(others)}."
        return Closing(Resolution.SUPERSEDED, text)
    return RESOLVED


def _previous_states(connection: sa.Connection, ids: Collection[str]) -> dict[str, RecordState]:
    """The state of each record before its last change."""
    newest = sa.func.row_number().over(
        partition_by=t.change.c.record_id, order_by=t.change.c.id.desc()
    )
    ranked = (
        sa.select(t.change.c.record_id, t.change.c.state, newest.label("place"))
        .where(t.change.c.record_id.in_(ids))
        .subquery()
    )
    statement = sa.select(ranked.c.record_id, ranked.c.state).where(ranked.c.place == 2)
    return {name: RecordState(text) for name, text in connection.execute(statement)}


def _named(placements: Collection[int]) -> str:
    names = [f"placement {placement}" for placement in dict.fromkeys(placements)]
    if len(names) > NAMED:
        names[NAMED:] = [f"{len(names) - NAMED} more"]
    return ", ".join(names)


def closing_of_file(state: Database, file_type: FileType, deanery: str, alarm: Alarm) -> Closing:
    """Return why an alarm about a missing file is closed, now that the last file was written.

    Returns:
        Superseded if the file of an earlier day, since the alarm was opened, was never written.

    """
    first = london_day(last_due(file_type, alarm.raised_at))
    days = sa.select(t.file.c.day).where(
        t.file.c.file_type == file_type,
        t.file.c.deanery == deanery,
        t.file.c.day >= first,
        t.file.c.written_at.is_not(None),
    )
    with state.read() as connection:
        written = sorted(set(connection.scalars(days)))
    count = (written[-1] - first).days + 1
    missing = [
        str(day) for day in (first + timedelta(days=n) for n in range(count)) if day not in written
    ]
    if not missing:
        return RESOLVED
    return Closing(
        Resolution.SUPERSEDED,
        f"The file of {written[-1]} was written; it contains what could still be sent. No file was "
        f"written for {', '.join(missing[:NAMED])}.",
    )
