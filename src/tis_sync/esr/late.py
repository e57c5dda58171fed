"""Placements that became known too late: they start before any export could hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.esr.eligible import (
    LEAD_DAYS,
    PLACEMENT_COLUMNS,
    POSITION_READS,
    is_type,
    positions,
)
from tis_sync.esr.plan import EXPORTED
from tis_sync.runs.services import Services
from tis_sync.state import esr as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.read import KeyRange, Read, just
from tis_sync.tcs.source import Source
from tis_sync.tcs.write import KEYS_A_STATEMENT

KIND = "too late"  # of alarm


@dataclass(frozen=True)
class Late:
    """A placement that no export can hold any more, of which deanery, and when it starts."""

    placement: int
    deanery: str
    start: date


def too_late(
    state: sa.Engine, source: sa.Engine, prefixes: Mapping[str, str], day: date
) -> list[Late]:
    """Placements that start from today to the last start that is too late, and were never sent.

    Only posts with a reconciled position count: of others, ESR knows nothing anyway.

    Args:
        state: our state.
        source: TCS.
        prefixes: which deanery the first part of a post number means, where not that of its name.
        day: the present day (Europe/London).

    """
    soon = Read(tcs.Placement, PLACEMENT_COLUMNS, where=just(_soon(day)))
    told = Read(
        tcs.PlacementEsrEvent,
        ("placementId",),
        through=(tcs.Placement, tcs.Placement.c.id == tcs.PlacementEsrEvent.c.placementId),
        where=just(_soon(day)),
    )
    frames = Source(source, day).load([soon, told, *POSITION_READS], KeyRange()).frames
    late = (
        frames["Placement"]
        .lazy()
        .filter(is_type(pl.col("placementType")))
        .join(positions(frames, prefixes), on="postId")
        .unique("id")
        .sort("dateFrom", "id")
        .select("id", pl.col("deanery").fill_null("?"), "dateFrom")
        .collect()
    )
    sent = set(frames["PlacementEsrEvent"]["placementId"])
    with state.connect() as connection:
        for part in late.iter_slices(KEYS_A_STATEMENT):
            among = sa.select(t.record.c.placement_id).where(
                t.record.c.placement_id.in_(part["id"].to_list()),
                sa.or_(t.record.c.state == EXPORTED, t.record.c.file.is_not(None)),
            )
            sent |= set(connection.scalars(among))
    return [Late(*row) for row in late.rows() if row[0] not in sent]


def announce(s: Services, found: list[Late]) -> None:
    """An alarm for each of these placements; those of others are closed."""
    now = s.clock()
    for late in found:
        s.alarms.raise_(
            KIND,
            f"placement {late.placement}",
            f"Placement {late.placement} of {late.deanery} starts on {late.start} and has not "
            "gone to ESR; no export can hold it any more. The trust has to hire this person by "
            f"hand: tell them now. Its story: `tis-sync esr explain {late.placement}`.",
            now,
        )
    s.alarms.close_others(KIND, {f"placement {late.placement}" for late in found}, now)


def _soon(day: date) -> sa.ColumnElement[bool]:
    starts = tcs.Placement.c.dateFrom
    last = day + timedelta(days=LEAD_DAYS)
    return sa.and_(starts >= day, starts <= last, tcs.Placement.c.lifecycleState == "APPROVED")
