"""PersonTrust: the trusts of each person, over both bodies of every post they were ever placed in.

Two jobs share the table. The first adds what employing bodies give and removes what neither body
gives; the second adds what training bodies give. So a pair that is right is never away, whichever
of them runs, and after both the table is the set of pairs over both bodies, each stored once.
Placements of any date, type and lifecycle state count.
"""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.reconcile.plan import TableTarget
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


def by_employing_body(frames: Frames, _as_of: AsOf | None = None) -> pl.LazyFrame:
    """The pairs (personId, trustId) that employing bodies give."""
    return _pairs(frames, "employingBodyId")


def by_training_body(frames: Frames, _as_of: AsOf | None = None) -> pl.LazyFrame:
    """The pairs (personId, trustId) that training bodies give."""
    return _pairs(frames, "trainingBodyId")


def _pairs(frames: Frames, body: str) -> pl.LazyFrame:
    return (
        frames["Placement"]
        .lazy()
        .select("traineeId", "postId")
        .unique()
        .join(frames["Post"].lazy(), left_on="postId", right_on="id")
        .select(personId="traineeId", trustId=body)
        .drop_nulls()
        .unique()
    )


def _target(*, removes: bool) -> TableTarget:
    return TableTarget(
        t.PersonTrust,
        ("personId", "trustId"),
        (),
        t.PersonTrust.c.personId,
        surrogate="id",
        removes=removes,
    )


READS = (
    PLACEMENTS,
    Read(t.Post, ("id", "employingBodyId", "trainingBodyId"), shared=True),
)
STALE = "trusts do not see people who were placed with them since yesterday"

PERSON_EMPLOYING_BODY = Job(
    name="PersonPlacementEmployingBodyTrustJob",
    old_names=("PersonPlacementEmployingBodyJob", "doPersonPlacementEmployingBodyFullSync"),
    lock_name="personTrustEmployingBodyScheduledTask",
    at=time(0, 9),
    makes="PersonTrust holds every pair of employing bodies, and none that neither body gives",
    stale=STALE,
    product=TableProduct(
        _target(removes=True), READS, desired=by_employing_body, allowed=by_training_body
    ),
    follow_ups=("PersonPlacementTrainingBodyTrustJob", "PersonElasticSearchSyncJob"),
)

PERSON_TRAINING_BODY = Job(
    name="PersonPlacementTrainingBodyTrustJob",
    old_names=("PersonPlacementTrainingBodyTrustJob", "PersonPlacementTrainingBodyFullSync"),
    lock_name="personTrustTrainingBodyScheduledTask",
    at=time(0, 29),
    makes="PersonTrust holds every pair of training bodies too",
    stale=STALE,
    product=TableProduct(_target(removes=False), READS, desired=by_training_body),
    depends_on=("PersonPlacementEmployingBodyTrustJob",),
    follow_ups=("PersonElasticSearchSyncJob",),
)
