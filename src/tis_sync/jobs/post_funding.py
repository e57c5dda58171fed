"""Post.fundingStatus: a post whose last funding has ended is no longer funded."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.reconcile.plan import TableTarget
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The posts to close: id, fundingStatus (INACTIVE).

    For a day D: posts with at least one funding that has a start date and ended on the day before
    D, all of whose fundings have an end date, none later than that. As the latest end of such a
    post is the day before D, all days from `as_of.first` to `as_of.last` are one condition.
    """
    last_end = pl.col("endDate").max()
    return (
        frames["PostFunding"]
        .lazy()
        .group_by("postId")
        .agg(
            last_end=last_end,
            open=pl.col("endDate").is_null().any(),
            started=((pl.col("endDate") == last_end) & pl.col("startDate").is_not_null()).any(),
        )
        .filter(
            ~pl.col("open")
            & pl.col("started")
            & pl.col("last_end").is_between(as_of.ended_first, as_of.ended_last)
        )
        .select(id="postId", fundingStatus=pl.lit("INACTIVE"))
    )


POST_FUNDING_STATUS = Job(
    name="PostFundingStatusSyncJob",
    old_names=("PostFundingStatusSyncJob", "postFundingStatusSyncJob"),
    lock_name="postFundingStatusSyncJobTask",
    at=time(1, 45),
    makes="Post.fundingStatus is INACTIVE where the last funding has ended",
    stale="posts whose funding has ended still show as funded",
    product=TableProduct(
        target=TableTarget(t.Post, ("id",), ("fundingStatus",), t.Post.c.id, columns_only=True),
        reads=(
            Read(
                t.PostFunding,
                ("id", "postId", "startDate", "endDate"),
                by=t.PostFunding.c.postId,
            ),
        ),
        desired=desired,
    ),
    follow_ups=("PostElasticSearchSyncJob",),
    dated=True,
)
