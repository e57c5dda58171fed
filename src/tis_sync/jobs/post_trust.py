"""PostTrust: the trusts of each post, over both its bodies; two jobs, as in `person_trust`."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.reconcile.plan import TableTarget
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def by_employing_body(frames: Frames, _as_of: AsOf | None = None) -> pl.LazyFrame:
    """The pairs (postId, trustId) that employing bodies give."""
    return _pairs(frames, "employingBodyId")


def by_training_body(frames: Frames, _as_of: AsOf | None = None) -> pl.LazyFrame:
    """The pairs (postId, trustId) that training bodies give."""
    return _pairs(frames, "trainingBodyId")


def _pairs(frames: Frames, body: str) -> pl.LazyFrame:
    return frames["Post"].lazy().select(postId="id", trustId=body).drop_nulls()


def _target(*, removes: bool) -> TableTarget:
    return TableTarget(
        t.PostTrust,
        ("postId", "trustId"),
        (),
        t.PostTrust.c.postId,
        surrogate="id",
        removes=removes,
    )


READS = (Read(t.Post, ("id", "employingBodyId", "trainingBodyId"), by=t.Post.c.id),)
STALE = "trusts do not see posts that became theirs since yesterday"

POST_EMPLOYING_BODY = Job(
    name="PostEmployingBodyTrustJob",
    old_names=("PostEmployingBodyTrustJob", "PostEmployingBodyTrustFullSync"),
    lock_name="postTrustEmployingBodyScheduledTask",
    at=time(1, 9),
    makes="PostTrust holds every pair of employing bodies, and none that neither body gives",
    stale=STALE,
    product=TableProduct(
        _target(removes=True), READS, desired=by_employing_body, allowed=by_training_body
    ),
    follow_ups=("PostTrainingBodyTrustJob",),
)

POST_TRAINING_BODY = Job(
    name="PostTrainingBodyTrustJob",
    old_names=("PostTrainingBodyTrustJob", "PostTrainingBodyTrustFullSync"),
    lock_name="postTrustTrainingBodyScheduledTask",
    at=time(1, 19),
    makes="PostTrust holds every pair of training bodies too",
    stale=STALE,
    product=TableProduct(_target(removes=False), READS, desired=by_training_body),
    depends_on=("PostEmployingBodyTrustJob",),
    follow_ups=("PostElasticSearchSyncJob",),
)
