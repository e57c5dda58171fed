"""Person.status: whether a person is in training, according to their programme memberships."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.dates import current
from tis_sync.jobs.reads import MEMBERSHIPS
from tis_sync.reconcile.table_plan import TableSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The status of the persons in question: id (Int64), status (String).

    The status is CURRENT if any membership is current today, otherwise INACTIVE. A person is
    considered if a membership starts on a day D, or ended on the day before D, for any D from
    `as_of.first` to `as_of.last`; with `as_of.every`, if they have a membership.
    """
    touched = (
        pl.col("programmeStartDate").is_between(as_of.first, as_of.last)
        | pl.col("programmeEndDate").is_between(as_of.ended_first, as_of.ended_last)
    ).fill_null(False)
    is_current = current("programmeStartDate", "programmeEndDate", as_of.today)
    return (
        frames["ProgrammeMembership"]
        .lazy()
        .group_by("personId")
        .agg(touched=touched.any() | pl.lit(as_of.every), current=is_current.any())
        .filter("touched")
        .select(
            id="personId",
            status=pl.when("current").then(pl.lit("CURRENT")).otherwise(pl.lit("INACTIVE")),
        )
    )


PERSON_RECORD_STATUS = Job(
    name="PersonRecordStatusJob",
    old_names=("PersonRecordStatusJob", "personRecordStatusJob"),
    lock_name="personRecordStatusScheduledTask",
    at=time(2, 0),
    description="Sets Person.status to CURRENT or INACTIVE when programme memberships start or end",
    impact="people who have started are shown as inactive, and people who have left as current",
    target=TableTarget(
        spec=TableSpec(t.Person, ("id",), ("status",), t.Person.c.id, columns_only=True),
        reads=(MEMBERSHIPS,),
        desired=desired,
    ),
    follow_ups=("PersonElasticSearchSyncJob",),
    dated=True,
)
