"""PersonTrust and PostTrust: the trusts of each person and of each post.

A post has an employing body and a training body; both are trusts. The trusts of a person are those
of every post in which the person was ever placed: placements of any date, type and lifecycle state
count.

Two jobs maintain each table. The first adds the pairs from employing bodies and removes the pairs
that neither body gives. The second adds the pairs from training bodies. So whichever job runs, no
correct pair is ever absent, and after both the table contains each pair of either body once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import time

import polars as pl
import sqlalchemy as sa

from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.reconcile.table_plan import TableSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

EMPLOYING, TRAINING = "employingBodyId", "trainingBodyId"
BODIES = ("id", EMPLOYING, TRAINING)


def person_trusts(frames: Frames, body: str) -> pl.LazyFrame:
    """The pairs of persons and one body of their posts: personId, trustId (both Int64)."""
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


def post_trusts(frames: Frames, body: str) -> pl.LazyFrame:
    """The pairs of posts and one of their bodies: postId, trustId (both Int64)."""
    return frames["Post"].lazy().select(postId="id", trustId=body).drop_nulls()


@dataclass(frozen=True)
class TrustTable:
    """A table of pairs that two jobs maintain.

    Attributes:
        table: the table.
        owner: its column for the person or the post; the other column is trustId.
        pairs: the pairs that one body gives.
        reads: what `pairs` reads from TCS.

    """

    table: sa.Table
    owner: str
    pairs: Callable[[Frames, str], pl.LazyFrame]
    reads: tuple[Read, ...]

    def employing(self) -> TableTarget:
        """The target of the first job, which removes what neither body gives."""
        return self._target(EMPLOYING, removes=True)

    def training(self) -> TableTarget:
        """The target of the second job, which only adds."""
        return self._target(TRAINING, removes=False)

    def _target(self, body: str, *, removes: bool) -> TableTarget:
        def desired(frames: Frames, _: AsOf) -> pl.LazyFrame:
            return self.pairs(frames, body)

        def of_training_bodies(frames: Frames) -> pl.LazyFrame:
            return self.pairs(frames, TRAINING)

        spec = TableSpec(
            self.table,
            key=(self.owner, "trustId"),
            values=(),
            partition_column=self.table.c[self.owner],
            surrogate="id",
            removes=removes,
        )
        return TableTarget(spec, self.reads, desired, of_training_bodies if removes else None)


PERSONS = TrustTable(
    t.PersonTrust,
    "personId",
    person_trusts,
    reads=(PLACEMENTS, Read(t.Post, BODIES, shared=True)),
)
POSTS = TrustTable(
    t.PostTrust,
    "postId",
    post_trusts,
    reads=(Read(t.Post, BODIES, partition_column=t.Post.c.id),),
)
PERSONS_IMPACT = "trusts do not see people who have been placed with them since yesterday"
POSTS_IMPACT = "trusts do not see posts that have become theirs since yesterday"

PERSON_EMPLOYING_BODY = Job(
    name="PersonPlacementEmployingBodyTrustJob",
    old_names=("PersonPlacementEmployingBodyJob", "doPersonPlacementEmployingBodyFullSync"),
    lock_name="personTrustEmployingBodyScheduledTask",
    at=time(0, 9),
    description="Adds the employing bodies of people's posts to PersonTrust, and removes trusts "
    "that are neither employing nor training bodies",
    impact=PERSONS_IMPACT,
    target=PERSONS.employing(),
    follow_ups=("PersonPlacementTrainingBodyTrustJob", "PersonElasticSearchSyncJob"),
)
PERSON_TRAINING_BODY = Job(
    name="PersonPlacementTrainingBodyTrustJob",
    old_names=("PersonPlacementTrainingBodyTrustJob", "PersonPlacementTrainingBodyFullSync"),
    lock_name="personTrustTrainingBodyScheduledTask",
    at=time(0, 29),
    description="Adds the training bodies of people's posts to PersonTrust",
    impact=PERSONS_IMPACT,
    target=PERSONS.training(),
    depends_on=("PersonPlacementEmployingBodyTrustJob",),
    follow_ups=("PersonElasticSearchSyncJob",),
)
POST_EMPLOYING_BODY = Job(
    name="PostEmployingBodyTrustJob",
    old_names=("PostEmployingBodyTrustJob", "PostEmployingBodyTrustFullSync"),
    lock_name="postTrustEmployingBodyScheduledTask",
    at=time(1, 9),
    description="Adds the employing bodies of posts to PostTrust, and removes trusts that are "
    "neither employing nor training bodies",
    impact=POSTS_IMPACT,
    target=POSTS.employing(),
    follow_ups=("PostTrainingBodyTrustJob",),
)
POST_TRAINING_BODY = Job(
    name="PostTrainingBodyTrustJob",
    old_names=("PostTrainingBodyTrustJob", "PostTrainingBodyTrustFullSync"),
    lock_name="postTrustTrainingBodyScheduledTask",
    at=time(1, 19),
    description="Adds the training bodies of posts to PostTrust",
    impact=POSTS_IMPACT,
    target=POSTS.training(),
    depends_on=("PostEmployingBodyTrustJob",),
    follow_ups=("PostElasticSearchSyncJob",),
)
