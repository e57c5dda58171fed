"""PersonOwner: which local office is responsible for each person."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.jobs.dates import current, future, past
from tis_sync.jobs.reads import MEMBERSHIPS, PLACEMENTS
from tis_sync.reconcile.plan import TableTarget
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """One row a Person: id, owner, rule (the first rule that yields an owner; null when none does).

    P1 a current programme membership, earliest start; P2 a current placement, earliest start;
    P5 a membership that starts after today, earliest start; P6 such a placement; P7 a membership
    that ended before today, latest end; P8 such a placement. A membership's owner is its
    programme's, a placement's is its post's; those without an owner do not count. Between equal
    dates the smallest key wins.
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
    records: pl.LazyFrame, rule: str, fits: pl.Expr, by: str, *, latest: bool = False
) -> pl.LazyFrame:
    """The record of each person that a rule picks: personId, owner, rule."""
    return (
        records.filter(fits & pl.col("owner").is_not_null() & pl.col("personId").is_not_null())
        .sort("personId", by, "key", descending=[False, latest, False])
        .unique("personId", keep="first", maintain_order=True)
        .select("personId", "owner", rule=pl.lit(rule))
    )


PERSON_OWNER = Job(
    name="PersonOwnerRebuildJob",
    old_names=("PersonOwnerRebuildJob", "personOwnerRebuildJob"),
    lock_name="personOwnerRebuildScheduledTask",
    at=time(0, 5),
    makes="PersonOwner holds exactly one row a person, with the owner that the rules give",
    stale="people are shown under yesterday's local office, or under none",
    product=TableProduct(
        target=TableTarget(t.PersonOwner, ("id",), ("owner", "rule"), t.PersonOwner.c.id),
        reads=(
            Read(t.Person, ("id",), by=t.Person.c.id),
            MEMBERSHIPS,
            PLACEMENTS,
            Read(t.Programme, ("id", "owner")),
            Read(t.Post, ("id", "owner")),
        ),
        desired=desired,
    ),
    follow_ups=("PersonElasticSearchSyncJob",),
)
