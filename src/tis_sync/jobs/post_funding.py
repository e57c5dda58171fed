"""Post.fundingStatus: a post whose last funding has ended is inactive."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.reconcile.table_plan import TableSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def desired(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The posts that become inactive: id (Int64), fundingStatus (String, always INACTIVE).

    For a day D, these are the posts with at least one funding that has a start date and ended on
    the day before D, provided that all fundings of the post have an end date and none ends later.
    The latest end of such a post is the day before D, so a single condition covers all D from
    `as_of.first` to `as_of.last`.
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
    description="Sets Post.fundingStatus to INACTIVE when the last funding of a post has ended",
    impact="posts whose funding has ended are still shown as funded",
    target=TableTarget(
        spec=TableSpec(t.Post, ("id",), ("fundingStatus",), t.Post.c.id, columns_only=True),
        reads=(
            Read(
                t.PostFunding,
                ("id", "postId", "startDate", "endDate"),
                partition_column=t.PostFunding.c.postId,
            ),
        ),
        desired=desired,
    ),
    follow_ups=("PostElasticSearchSyncJob",),
    dated=True,
)
