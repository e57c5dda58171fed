"""The derived tables as the Java service would have left them, with errors.

They are computed from the jobs' desired states and then damaged: rows are missing, surplus or out
of date, and a pair is stored twice if the same trust is both bodies of a post.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from tis_sync.demo.draw import Draw
from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.trusts import (
    PERSON_EMPLOYING_BODY,
    PERSON_TRAINING_BODY,
    POST_EMPLOYING_BODY,
    POST_TRAINING_BODY,
)


def legacy_tables(
    frames: Mapping[str, pl.DataFrame], today: date, seed: int
) -> dict[str, pl.DataFrame]:
    """Compute PersonOwner, PersonTrust and PostTrust for generated core tables.

    Args:
        frames: the core tables by name.
        today: the day on which the Java service last ran.
        seed: a different seed gives different errors.

    Returns:
        The derived tables by name.

    """
    draw = Draw(seed + 99)
    owners = _desired(PERSON_OWNER, frames, today).filter(~draw.one_in(100))
    stale = pl.when(draw.one_in(50)).then(pl.lit("P7")).otherwise("rule")
    tables = {"PersonOwner": owners.with_columns(rule=stale)}
    for bodies in (
        (PERSON_EMPLOYING_BODY, PERSON_TRAINING_BODY),
        (POST_EMPLOYING_BODY, POST_TRAINING_BODY),
    ):
        pairs = pl.concat([_desired(job, frames, today) for job in bodies])
        record, trust = pairs.columns
        surplus = pairs.filter(draw.one_in(200)).with_columns(pl.lit(1, pl.Int64).alias(trust))
        damaged = pl.concat([pairs.filter(~draw.one_in(100)), surplus]).sort(record, trust)
        target = bodies[0].target
        assert isinstance(target, TableTarget)
        tables[target.spec.table.name] = damaged.select(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("id"), record, trust
        )
    return tables


def _desired(job: Job, frames: Mapping[str, pl.DataFrame], today: date) -> pl.DataFrame:
    target = job.target
    assert isinstance(target, TableTarget)
    reads = {read.table.name: frames[read.table.name].select(read.columns) for read in target.reads}
    return target.desired(reads, AsOf.on(today)).collect().sort(pl.all())
