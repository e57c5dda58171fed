"""Person.status: is a person training now, as far as their programme memberships say?"""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.jobs.dates import current
from tis_sync.jobs.reads import MEMBERSHIPS
from tis_sync.reconcile.plan import TableTarget
from tis_sync.tcs import tables as t
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The persons looked at: id, status (CURRENT if any membership is current today, or INACTIVE).

    Looked at are persons with a membership that starts on a day D, or ended on the day before, for
    every D from `as_of.first` to `as_of.last`; with `as_of.every`, all who have a membership.
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
    makes="Person.status is CURRENT or INACTIVE as memberships that began or ended say",
    stale="people who started show as inactive, and people who left as current",
    product=TableProduct(
        target=TableTarget(t.Person, ("id",), ("status",), t.Person.c.id, columns_only=True),
        reads=(MEMBERSHIPS,),
        desired=desired,
    ),
    follow_ups=("PersonElasticSearchSyncJob",),
    dated=True,
)
