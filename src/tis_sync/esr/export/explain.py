"""Explain why a placement was or was not sent to ESR: its whole history, in order."""

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.esr.applicants.eligibility import POSITION_READS, obstacle, positions
from tis_sync.esr.applicants.generate import placements_by_id
from tis_sync.esr.calendar import LONDON, earliest_start, latest_start, london_day, next_due
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.store import find_file
from tis_sync.esr.records import (
    Record,
    RecordChange,
    RecordState,
    find_records,
    record_history,
)
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Source


@dataclass(frozen=True)
class Explanation:
    """The history of a placement on its way to ESR.

    Attributes:
        placement: its id.
        obstacle: why it is not eligible today; None if it is.
        lines: the explanation, one sentence per line.
        records: its records.
        changes: the state changes of its records, oldest first.
        tcs_events: the exports that were reported to TCS: rows of PlacementEsrEvent.

    """

    placement: int
    obstacle: str | None
    lines: list[str]
    records: list[Record]
    changes: list[RecordChange]
    tcs_events: list[dict[str, object]]


def explain(s: Services, placement: int, *, personal: bool = True) -> Explanation:
    """Explain the history of a placement.

    Args:
        s: settings, clock and servers.
        placement: its id.
        personal: whether the lines may contain personal data: the person's name, and the values
            for which a record is invalid.

    Raises:
        UnreachableError: TCS or the state database does not answer.

    """
    now = s.clock()
    day = london_day(now)
    lines, why = _placement_lines(s, placement, day)
    lines.append("Eligible today." if why is None else f"Not eligible today: {why}.")
    records = find_records(s.state, placement=placement, limit=None)
    changes = record_history(s.state, [record.id for record in records])
    for record in records:
        of_record = [change for change in changes if change.record_id == record.id]
        lines += _record_lines(s, record, of_record, personal=personal)
    events = _tcs_events(s.tcs(), placement)
    lines += [
        f"Reported to TCS: {event['status']}, position {event['positionId']}, in "
        f"{event['filename']}, {event['eventDateTime']:%Y-%m-%d %H:%M} UTC."
        for event in events
    ]
    lines.append(_next_line(records, why, now))
    return Explanation(placement, why, lines, records, changes, events)


def _placement_lines(s: Services, placement: int, day: date) -> tuple[list[str], str | None]:
    """What TCS says about the placement, and why it is not eligible, if it is not."""
    rows = placements_by_id(s.tcs(), day, pl.Series([placement], dtype=pl.Int64))
    if rows.is_empty():
        line = f"Placement {placement}: TCS has no placement with this id, or no longer has it."
        return [line], "TCS has no such placement"
    why: str | None = rows.select(obstacle(day)).item()
    row = rows.row(0, named=True)
    number, of_post = _post(s, row["postId"])
    line = (
        f"Placement {placement}: {row['placementType']}, {row['lifecycleState']}, from "
        f"{row['dateFrom']} to {row['dateTo']}, in post {number or '(none)'}."
    )
    if why is None and not any(position["deanery"] for position in of_post):
        why = "its post has no reconciled position, so ESR does not know it yet"
    return [line, *_position_lines(of_post)], why


def _post(s: Services, post_id: int | None) -> tuple[str | None, list[dict[str, object]]]:
    """A post's number, and the latest event of each of its positions."""
    keys = {tcs.Post: tcs.Post.c.id, tcs.PostEsrEvent: tcs.PostEsrEvent.c.postId}
    reads = [
        Read(read.table, read.columns, where=always(keys[read.table] == post_id))
        for read in POSITION_READS
    ]
    frames = Source(s.tcs(), london_day(s.clock())).load(reads, ALL_KEYS).frames
    post = frames["Post"]
    number = None if post.is_empty() else post["nationalPostNumber"][0]
    key = ["positionId", "positionNumber"]
    reconciled = positions(frames, s.settings.esr_deaneries).collect().select(*key, "deanery")
    latest = (
        frames["PostEsrEvent"]
        .sort("eventDateTime", "id")
        .group_by(key, maintain_order=True)
        .last()
        .join(reconciled, on=key, how="left")
    )
    return number, latest.to_dicts()


def _position_lines(of_post: list[dict[str, object]]) -> list[str]:
    if not of_post:
        return ["Its post has no position in ESR."]
    return [
        f"Position {position['positionId']} (number {position['positionNumber']}) of the post: "
        f"{position['status']} since {position['eventDateTime']:%Y-%m-%d %H:%M}"
        + (f", deanery {position['deanery']}." if position["deanery"] else ".")
        for position in of_post
    ]


def _record_lines(
    s: Services, record: Record, changes: list[RecordChange], *, personal: bool
) -> list[str]:
    def why(state: RecordState, reason: str | None) -> str | None:
        return reason if personal or state != RecordState.INVALID_DATA else None

    name = f"{record.name}, " if personal else ""
    reason = why(record.state, record.reason)
    lines = [
        f"Record {record.id} ({name}deanery {record.deanery or '?'}): {record.state}"
        + (f", {reason}" if reason else "")
        + "."
    ]
    for change in changes:
        reason = why(change.state, change.reason)
        lines.append(
            f"  {change.at:%Y-%m-%d %H:%M:%S} UTC {change.state}"
            + (f": {reason}" if reason else "")
        )
    if record.postponed:
        lines.append(f"  postponed: {record.postponed}")
    file = None if record.file is None else find_file(s.state, record.file)
    if file is not None:
        state = "not yet written"
        if file.written_at is not None:
            state = f"written {file.written_at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"  in {file.name} (number {file.number}), {state}.")
    return lines


def _tcs_events(source: Database, placement: int) -> list[dict[str, object]]:
    event = tcs.PlacementEsrEvent
    statement = sa.select(event).where(event.c.placementId == placement).order_by(event.c.id)
    with source.read() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def _next_line(records: list[Record], why: str | None, now: datetime) -> str:
    """What happens next and when, or what someone must do."""
    moment = next_due(FileType.APP, now)
    when = f"{moment.astimezone(LONDON):%A %-d %B %Y at %H:%M} London time"
    final = {RecordState.EXPORTED, RecordState.DELETED_BEFORE_EXPORT}
    waiting = [record for record in records if record.state not in final]
    if not waiting:
        if why is None and not records:
            return (
                "Next: it becomes a record at the next refresh. To refresh now: "
                "`tis-sync esr generate`."
            )
        if any(record.state == RecordState.EXPORTED for record in records):
            return "Next: nothing. It has been exported and will not be sent again."
        return "Next: nothing, unless the placement is changed in TIS."
    first = min(waiting, key=lambda record: record.start)
    next_day = london_day(moment)
    if any(record.state == RecordState.INVALID_DATA for record in waiting):
        return (
            "Next: correct the data in TIS. The record then becomes TO_EXPORT automatically, and "
            f"is sent with the export of {when} if the data is correct by then."
        )
    if any(record.file for record in waiting):
        return (
            "Next: its file is being sent, and the record becomes EXPORTED once that has been "
            "reported to TCS. If this takes more than a few minutes: `tis-sync esr dead list`."
        )
    if earliest_start(next_day) <= first.start <= latest_start(next_day):
        return (
            f"Next: it is sent with the export of {when}. To send it now: "
            f"`tis-sync esr export {first.deanery} --new`."
        )
    return (
        f"AT RISK: the export of {when} is too late for a start on {first.start}. "
        f"Send it now: `tis-sync esr export {first.deanery} --new`."
    )
