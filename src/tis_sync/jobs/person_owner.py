"""PersonOwner: which local office is responsible for each person."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.dates import current, future, past
from tis_sync.jobs.reads import MEMBERSHIPS, PLACEMENTS
from tis_sync.reconcile.table_plan import TableSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """One row per person: id (Int64), owner and rule (String).

    The first rule that gives an owner wins; if none does, owner and rule are null:

    P1  a current programme membership, the earliest start
    P2  a current placement, the earliest start
    P5  a programme membership that starts after today, the earliest start
    P6  a placement that starts after today, the earliest start
    P7  a programme membership that ended before today, the latest end
    P8  a placement that ended before today, the latest end

    The owner of a membership is that of its programme; the owner of a placement is that of its
    post. Records without an owner are skipped. If dates are equal, the smallest key wins.
    """
    today = as_of.today
    memberships = (
        frames["ProgrammeMembership"]
        .lazy()
        .join(frames["Programme"].lazy(), left_on="programmeId", right_on="id")
        .select("personId", "owner", "uuid", start="programmeStartDate", end="programmeEndDate")
        .rename({"uuid": "key"})
    )
    placements = (
        frames["Placement"]
        .lazy()
        .join(frames["Post"].lazy(), left_on="postId", right_on="id")
        .select("owner", personId="traineeId", key="id", start="dateFrom", end="dateTo")
    )
    rules = [
        _best(memberships, "P1", current("start", "end", today), "start"),
        _best(placements, "P2", current("start", "end", today), "start"),
        _best(memberships, "P5", future("start", today), "start"),
        _best(placements, "P6", future("start", today), "start"),
        _best(memberships, "P7", past("end", today), "end", latest=True),
        _best(placements, "P8", past("end", today), "end", latest=True),
    ]
    winners = pl.concat(rules).unique("personId", keep="first", maintain_order=True)
    return (
        frames["Person"]
        .lazy()
        .select("id")
        .join(winners, left_on="id", right_on="personId", how="left")
    )


def _best(
    records: pl.LazyFrame, rule: str, condition: pl.Expr, date_column: str, *, latest: bool = False
) -> pl.LazyFrame:
    """The record that a rule selects for each person: personId, owner, rule."""
    return (
        records.filter(condition & pl.col("owner").is_not_null() & pl.col("personId").is_not_null())
        .sort("personId", date_column, "key", descending=[False, latest, False])
        .unique("personId", keep="first", maintain_order=True)
        .select("personId", "owner", rule=pl.lit(rule))
    )


PERSON_OWNER = Job(
    name="PersonOwnerRebuildJob",
    old_names=("PersonOwnerRebuildJob", "personOwnerRebuildJob"),
    lock_name="personOwnerRebuildScheduledTask",
    at=time(0, 5),
    description="Keeps one row per person in PersonOwner, with the owner that the rules give",
    impact="people are shown under yesterday's local office, or under none",
    target=TableTarget(
        spec=TableSpec(t.PersonOwner, ("id",), ("owner", "rule"), t.PersonOwner.c.id),
        reads=(
            Read(t.Person, ("id",), partition_column=t.Person.c.id),
            MEMBERSHIPS,
            PLACEMENTS,
            Read(t.Programme, ("id", "owner")),
            Read(t.Post, ("id", "owner")),
        ),
        desired=desired,
    ),
    follow_ups=("PersonElasticSearchSyncJob",),
)
