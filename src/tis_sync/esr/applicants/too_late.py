"""Placements that were entered too late: they start before any export can include them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.alarms.catalogue import TOO_LATE, Resolution
from tis_sync.alarms.store import RESOLVED, Alarm, Closing
from tis_sync.db.bulk import KEYS_PER_STATEMENT
from tis_sync.db.database import Database
from tis_sync.esr.applicants.eligibility import (
    PLACEMENT_COLUMNS,
    POSITION_READS,
    is_exported_type,
    positions,
)
from tis_sync.esr.applicants.generate import placements_by_id
from tis_sync.esr.calendar import LEAD_DAYS, earliest_start
from tis_sync.esr.records import RecordState
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.columns import comparable
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Source

SUBJECT = "placement "  # followed by the id of the placement: the subject of an alarm


@dataclass(frozen=True)
class LatePlacement:
    """A placement that no export can include any longer.

    Attributes:
        placement: its id.
        deanery: the code of its deanery; "?" if it is unknown.
        start: its first day.

    """

    placement: int
    deanery: str
    start: date


def late_reads(day: date) -> tuple[Read, ...]:
    """The reads from TCS that `find_too_late` needs on a day."""
    soon = always(_starts_soon(day))
    events = Read(
        tcs.PlacementEsrEvent,
        ("placementId",),
        join=(tcs.Placement, tcs.Placement.c.id == tcs.PlacementEsrEvent.c.placementId),
        where=soon,
    )
    return (Read(tcs.Placement, PLACEMENT_COLUMNS, where=soon), events, *POSITION_READS)


def find_too_late(
    state: Database, source: Database, prefixes: Mapping[str, str], day: date
) -> list[LatePlacement]:
    """Find placements that start soon, can no longer be exported, and were never sent.

    Only placements in posts with a reconciled position count: ESR does not know the other posts.

    Args:
        state: the state database.
        source: TCS.
        prefixes: as for `tis_sync.esr.applicants.eligibility.positions`.
        day: today's date (Europe/London).

    """
    frames = Source(source, day).load(late_reads(day), ALL_KEYS).frames
    late = (
        frames["Placement"]
        .lazy()
        .filter(is_exported_type(pl.col("placementType")))
        .join(positions(frames, prefixes), on="postId")
        .unique("id")
        .sort("dateFrom", "id")
        .select("id", pl.col("deanery").fill_null("?"), "dateFrom")
        .collect()
    )
    sent = set(frames["PlacementEsrEvent"]["placementId"])
    sent |= _sent(state, late["id"])
    return [LatePlacement(*row) for row in late.rows() if row[0] not in sent]


def _sent(state: Database, placements: pl.Series) -> set[int]:
    """Those of the placements whose record was sent, or is claimed for a file."""
    sent: set[int] = set()
    with state.read() as connection:
        for part in placements.to_frame().iter_slices(KEYS_PER_STATEMENT):
            statement = sa.select(t.record.c.placement_id).where(
                t.record.c.placement_id.in_(part.to_series().to_list()),
                sa.or_(t.record.c.state == RecordState.EXPORTED, t.record.c.file.is_not(None)),
            )
            sent |= set(connection.scalars(statement))
    return sent


def check_too_late(s: Services, began: date, day: date) -> None:
    """Open an alarm for each placement that is too late, and close the alarms of all others.

    Args:
        s: settings, clock and servers.
        began: the day on which this installation began to export. Placements that were already too
            late then are not reported.
        day: today's date (Europe/London).

    """
    now = s.clock()
    first = earliest_start(began)
    placements = find_too_late(s.state, s.tcs(), s.settings.esr_deaneries, day)
    late = {f"{SUBJECT}{one.placement}": one for one in placements if one.start >= first}
    for subject, placement in late.items():
        details = (
            f"Placement {placement.placement} of {placement.deanery} starts on {placement.start} "
            "and was not sent to ESR. No export can include it any longer."
        )
        s.alarms.open(TOO_LATE, subject, details, now, placement=placement.placement)
    others = [a for a in s.alarms.open_alarms(TOO_LATE) if a.subject not in late]
    if others:
        closings = _closings(s, [_placement_of(alarm) for alarm in others], day)
        for alarm in others:
            s.alarms.close(TOO_LATE, alarm.subject, now, closings[_placement_of(alarm)])


def _placement_of(alarm: Alarm) -> int:
    return int(alarm.subject.removeprefix(SUBJECT))


def _closings(s: Services, placements: Sequence[int], day: date) -> dict[int, Closing]:
    """Why the alarms about these placements are closed: what became of each placement."""
    ids = pl.Series(placements, dtype=pl.Int64)
    sent = _sent(s.state, ids)
    event = tcs.PlacementEsrEvent.c.placementId
    with s.tcs().read() as connection:
        for part in ids.to_frame().iter_slices(KEYS_PER_STATEMENT):
            statement = sa.select(event).where(event.in_(part.to_series().to_list()))
            sent |= set(connection.scalars(statement))
    starts = {
        row["id"]: row["dateFrom"]
        for row in placements_by_id(s.tcs(), day, ids).iter_rows(named=True)
        if row["lifecycleState"] == "APPROVED"
    }
    return {one: _closing(one in sent, starts.get(one), day) for one in placements}


def _closing(is_sent: bool, start: date | None, day: date) -> Closing:
    if is_sent:
        return RESOLVED
    if start is not None and start < day:
        text = f"The placement started on {start}. Payroll was not informed through ESR."
        return Closing(Resolution.EXPIRED, text)
    text = "The placement was withdrawn or changed, so it need not be sent at present."
    return Closing(Resolution.SUPERSEDED, text)


def _starts_soon(day: date) -> sa.ColumnElement[bool]:
    starts = tcs.Placement.c.dateFrom
    last = day + timedelta(days=LEAD_DAYS)
    approved = comparable(tcs.Placement.c.lifecycleState) == "APPROVED"
    return sa.and_(starts >= day, starts <= last, approved)
