"""The difference between the documents that an index should hold and those that it does.

An index tells, a bucket of neighbouring keys, how many documents it holds and the sum of their
hashes: little to send even for millions. Only buckets that differ are looked at a document at a
time. (The idea is that of anti-entropy by hash trees, with one level.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from tis_sync.search.documents import DocumentForm, encode, fingerprints
from tis_sync.search.model import KEYS_A_BUCKET, SearchEngine
from tis_sync.tcs.read import KeyRange

VIEWS_AT_ONCE = 25_000  # encoded together: bounds memory, as an encoded document is a kilobyte


@dataclass(frozen=True)
class IndexPlan:
    """What to do to an index so that it holds the desired documents.

    Attributes:
        added, changed: documents (id, bucket, hash, body) to put in.
        removed: ids of documents to delete.
        considered: documents that should exist, by count.
        existing: documents that do, by count.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    removed: list[str]
    considered: int
    existing: int

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return not (self.added.height or self.changed.height or self.removed)


def encoded(views: pl.DataFrame, form: DocumentForm) -> Iterator[pl.DataFrame]:
    """The documents of some views, a bounded number at a time."""
    for part in views.iter_slices(VIEWS_AT_ONCE):
        yield encode(part, form)


def difference(
    engine: SearchEngine, index: str, views: pl.DataFrame, form: DocumentForm, keys: KeyRange
) -> IndexPlan:
    """Plan the way from what an index holds in a key range to `views` (all of that range).

    The bounds of the range are multiples of `KEYS_A_BUCKET`, or None.
    """
    nothing = encode(views.clear(), form)
    wanted = fingerprints(views, form)
    there = engine.sums(index, _bucket(keys.low), _bucket(keys.high))
    existing = int(there["count"].sum())
    differing = (
        wanted.group_by("bucket")
        .agg(wanted_count=pl.len().cast(pl.Int64), wanted_total=pl.col("hash").sum())
        .join(there, on="bucket", how="full", coalesce=True)
        .filter(
            pl.col("wanted_count").ne_missing(pl.col("count"))
            | pl.col("wanted_total").ne_missing(pl.col("total"))
        )
        .get_column("bucket")
    )
    if differing.is_empty():
        return IndexPlan(nothing, nothing, [], wanted.height, existing)
    held = engine.hashes(index, differing.to_list())
    looked_at = wanted.filter(pl.col("bucket").is_in(differing.implode())).join(
        held.rename({"hash": "held"}), on="id", how="left"
    )
    added = looked_at.filter(pl.col("held").is_null())
    changed = looked_at.filter(pl.col("held") != pl.col("hash"))
    removed = held.join(wanted, on="id", how="anti")["id"].to_list()
    return IndexPlan(
        _bodies(views, form, added["id"]),
        _bodies(views, form, changed["id"]),
        removed,
        wanted.height,
        existing,
    )


def _bodies(views: pl.DataFrame, form: DocumentForm, ids: pl.Series) -> pl.DataFrame:
    """The documents of chosen ids: few, where a night is quiet."""
    return encode(views.filter(pl.col("documentId").is_in(ids.implode())), form)


def _bucket(key: int | None) -> int | None:
    return None if key is None else key // KEYS_A_BUCKET
