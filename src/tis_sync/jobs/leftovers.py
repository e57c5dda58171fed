"""Synthetic derived tables, as the Java service would have left them: not quite right.

Made from the desired states of the jobs themselves, then spoilt: gaps, surplus, stale values, and
a pair stored twice where both bodies of a post are the same trust.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.person_trust import PERSON_EMPLOYING_BODY, PERSON_TRAINING_BODY
from tis_sync.jobs.post_trust import POST_EMPLOYING_BODY, POST_TRAINING_BODY
from tis_sync.tcs.demo.draw import Draw


def left_by_old_service(
    frames: Mapping[str, pl.DataFrame], today: date, seed: int
) -> dict[str, pl.DataFrame]:
    """PersonOwner, PersonTrust and PostTrust for generated core tables, by table name."""
    draw = Draw(seed + 99)
    owners = _desired(PERSON_OWNER, frames, today).filter(~draw.one_in(100))
    stale = pl.when(draw.one_in(50)).then(pl.lit("P7")).otherwise("rule")
    result = {"PersonOwner": owners.with_columns(rule=stale)}
    for bodies in (
        (PERSON_EMPLOYING_BODY, PERSON_TRAINING_BODY),
        (POST_EMPLOYING_BODY, POST_TRAINING_BODY),
    ):
        pairs = pl.concat([_desired(job, frames, today) for job in bodies])
        record, trust = pairs.columns
        surplus = pairs.filter(draw.one_in(200)).with_columns(pl.lit(1, pl.Int64).alias(trust))
        left = pl.concat([pairs.filter(~draw.one_in(100)), surplus]).sort(record, trust)
        product = bodies[0].product
        assert isinstance(product, TableProduct)
        result[product.target.table.name] = left.select(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("id"), record, trust
        )
    return result


def _desired(job: Job, frames: Mapping[str, pl.DataFrame], today: date) -> pl.DataFrame:
    product = job.product
    assert isinstance(product, TableProduct)
    reads = {
        read.table.name: frames[read.table.name].select(read.columns) for read in product.reads
    }
    return product.desired(reads, AsOf.on(today)).collect().sort(pl.all())
