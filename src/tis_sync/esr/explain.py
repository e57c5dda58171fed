"""Why has a placement (not) gone to ESR? The whole story, in the order in which it happened."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl
import sqlalchemy as sa

from tis_sync.esr import files
from tis_sync.esr.deaneries import APP, LONDON, london_day, next_due
from tis_sync.esr.eligible import POSITION_READS, earliest_start, latest_start, obstacle, positions
from tis_sync.esr.generate import placements_of
from tis_sync.esr.plan import DELETED, EXPORTED, INVALID
from tis_sync.esr.records import Change, Record, history
from tis_sync.esr.records import records as records_of
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import explained
from tis_sync.tcs.read import KeyRange, Read, just
from tis_sync.tcs.source import Source


@dataclass(frozen=True)
class Story:
    """What is known of a placement's way to ESR.

    Attributes:
        placement: its id.
        obstacle: why it is not eligible today; None where it is.
        lines: the story, a sentence a line.
        records: its records.
        changes: their history.
        told: what TCS was told: file name, position, time.

    """

    placement: int
    obstacle: str | None
    lines: list[str]
    records: list[Record]
    changes: list[Change]
    told: list[dict[str, object]]


def explain(s: Services, placement: int) -> Story:
    """Tell the story of a placement.

    Raises:
        UnreachableError: TCS or our state does not answer.

    """
    now = s.clock()
    day = london_day(now)
    found = placements_of(s.tcs(), day, pl.Series([placement], dtype=pl.Int64))
    mine = records_of(s.state, placement=placement, limit=None)
    changes = history(s.state, [record.id for record in mine])
    told = _told(s.tcs(), placement)
    lines: list[str] = []
    why: str | None
    if found.is_empty():
        why = "TCS has no such placement"
        lines.append(f"Placement {placement}: TCS has none of this number, or has it no more.")
    else:
        why = found.select(obstacle(day)).item()
        row = found.row(0, named=True)
        post, of_post = _post(s, row["postId"])
        lines.append(
            f"Placement {placement}: {row['placementType']}, {row['lifecycleState']}, from "
            f"{row['dateFrom']} to {row['dateTo']}, in post {post or '(none)'}."
        )
        lines += _positions(of_post)
        if why is None and not any(p["deanery"] for p in of_post):
            why = "its post has no reconciled position: ESR does not know it yet"
    lines.append(f"Not eligible today: {why}." if why else "Eligible today.")
    for record in mine:
        lines += _record(s, record, [c for c in changes if c.record_id == record.id])
    lines += [
        f"TCS was told: {row['status']}, position {row['positionId']}, in {row['filename']}, "
        f"{row['eventDateTime']:%Y-%m-%d %H:%M} UTC."
        for row in told
    ]
    lines.append(_next(mine, why, now))
    return Story(placement, why, lines, mine, changes, told)


def _told(source: sa.Engine, placement: int) -> list[dict[str, object]]:
    event = tcs.PlacementEsrEvent
    statement = sa.select(event).where(event.c.placementId == placement).order_by(event.c.id)
    with (
        explained(source, name="TCS", setting="TIS_SYNC_TCS_URL"),
        source.connect() as connection,
    ):
        return [dict(row) for row in connection.execute(statement).mappings()]


def _post(s: Services, post_id: int | None) -> tuple[str | None, list[dict[str, object]]]:
    """A post's number, and the latest event of each of its positions."""
    keys = {tcs.Post: tcs.Post.c.id, tcs.PostEsrEvent: tcs.PostEsrEvent.c.postId}
    reads = [
        Read(read.table, read.columns, where=just(keys[read.table] == post_id))
        for read in POSITION_READS
    ]
    frames = Source(s.tcs(), london_day(s.clock())).load(reads, KeyRange()).frames
    post = frames["Post"]
    number = None if post.is_empty() else post["nationalPostNumber"][0]
    reconciled = positions(frames, s.settings.esr_deaneries).collect()
    latest = (
        frames["PostEsrEvent"]
        .sort("eventDateTime", "id")
        .group_by("positionId", "positionNumber", maintain_order=True)
        .last()
        .join(
            reconciled.select("positionId", "positionNumber", "deanery"),
            on=["positionId", "positionNumber"],
            how="left",
        )
    )
    return number, latest.to_dicts()


def _positions(of_post: list[dict[str, object]]) -> list[str]:
    if not of_post:
        return ["Its post has no position in ESR."]
    return [
        f"Position {p['positionId']} (number {p['positionNumber']}) of the post: {p['status']} "
        f"since {p['eventDateTime']:%Y-%m-%d %H:%M}"
        + (f", deanery {p['deanery']}." if p["deanery"] else ".")
        for p in of_post
    ]


def _record(s: Services, record: Record, changes: list[Change]) -> list[str]:
    lines = [
        f"Record {record.id} ({record.name}, deanery {record.deanery or '?'}): {record.state}"
        + (f", {record.reason}" if record.reason else "")
        + "."
    ]
    lines += [
        f"  {change.at:%Y-%m-%d %H:%M:%S} UTC {change.state}"
        + (f": {change.reason}" if change.reason else "")
        for change in changes
    ]
    if record.held:
        lines.append(f"  held: {record.held}")
    if record.file is not None and (file := files.file_named(s.state, record.file)) is not None:
        state = "not yet written"
        if file.written_at is not None:
            state = f"written {file.written_at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"  in {file.name} (number {file.number}), {state}.")
    return lines


def _next(mine: list[Record], why: str | None, now: datetime) -> str:
    """What will happen next, and when; or what a person has to do."""
    moment = next_due(APP, now)
    when = f"{moment.astimezone(LONDON):%A %-d %B %Y at %H:%M} London time"
    waiting = [r for r in mine if r.state not in {EXPORTED, DELETED}]
    if not waiting:
        if why is None and not mine:
            return (
                "Next: it becomes a record when records are next brought up to date; at once: "
                "`tis-sync esr generate`."
            )
        if any(r.state == EXPORTED for r in mine):
            return "Next: nothing; it has been exported, and is never sent again."
        return "Next: nothing, unless the placement is changed in TIS."
    first = min(waiting, key=lambda r: r.start)
    next_day = london_day(moment)
    if any(r.state == INVALID for r in waiting):
        return (
            "Next: correct the data in TIS; it then becomes TO_EXPORT by itself, and goes with "
            f"the export of {when} if it is right by then."
        )
    if any(r.file for r in waiting):
        return (
            "Next: its file is under way; the record is EXPORTED when TCS has been told. See "
            "`tis-sync esr dead list` if that takes longer than some minutes."
        )
    if earliest_start(next_day) <= first.start <= latest_start(next_day):
        return f"Next: it goes with the export of {when}; at once: `tis-sync esr export --new`."
    return (
        f"AT RISK: the export of {when} comes too late for a start on {first.start}. "
        f"Send it now: `tis-sync esr export {first.deanery} --new`."
    )
