"""Plan the changes of an index: the difference between the desired and the existing documents.

For each bucket of neighbouring keys, the index returns the number of documents and the sum of their
hashes, which is little data even for millions of documents. Only the documents in buckets that
differ are compared individually. (This is anti-entropy with a one-level hash tree.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from tis_sync.search.documents import DocumentForm, encode, fingerprints
from tis_sync.search.model import KEYS_PER_BUCKET, SearchEngine
from tis_sync.tcs.key_ranges import KeyRange

NO_KEYS = pl.Series("key", [], dtype=pl.Int64)
VIEWS_AT_ONCE = 25_000  # encoded together; this bounds memory: a document takes about a kilobyte


@dataclass(frozen=True)
class IndexPlan:
    """The changes that turn the existing documents into the desired ones.

    Attributes:
        added, changed: documents to write (id, bucket, hash, body).
        removed: ids of documents to delete.
        considered: the number of desired documents.
        existing: the number of existing documents.
        lost_keys: keys (Int64) that have documents and would have none: what the guard counts.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    removed: list[str]
    considered: int
    existing: int
    lost_keys: pl.Series

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.added.height or self.changed.height or self.removed)


def encoded(views: pl.DataFrame, form: DocumentForm) -> Iterator[pl.DataFrame]:
    """Encode views as documents, a bounded number at a time.

    Args:
        views: a row per document, with `documentId` and the columns of the form.
        form: how a view becomes a document.

    """
    for part in views.iter_slices(VIEWS_AT_ONCE):
        yield encode(part, form)


def difference(
    engine: SearchEngine, index: str, views: pl.DataFrame, form: DocumentForm, keys: KeyRange
) -> IndexPlan:
    """Plan the changes of an index in a key range.

    Args:
        engine: the search engine.
        index: the concrete index.
        views: a row for every desired document in the range: `documentId` and the columns of the
            form.
        form: how a view becomes a document.
        keys: the range; its bounds are multiples of `KEYS_PER_BUCKET`, or None.

    """
    nothing = encode(views.clear(), form)
    desired = fingerprints(views, form)
    buckets = engine.sums(index, _bucket(keys.low), _bucket(keys.high))
    existing_count = int(buckets["count"].sum())
    differing = (
        desired.group_by("bucket")
        .agg(desired_count=pl.len().cast(pl.Int64), desired_total=pl.col("hash").sum())
        .join(buckets, on="bucket", how="full", coalesce=True)
        .filter(
            pl.col("desired_count").ne_missing(pl.col("count"))
            | pl.col("desired_total").ne_missing(pl.col("total"))
        )
        .get_column("bucket")
    )
    if differing.is_empty():
        return IndexPlan(nothing, nothing, [], desired.height, existing_count, NO_KEYS)
    existing = engine.hashes(index, differing.to_list())
    compared = desired.filter(pl.col("bucket").is_in(differing.implode())).join(
        existing.rename({"hash": "existing_hash"}), on="id", how="left"
    )
    added = compared.filter(pl.col("existing_hash").is_null())
    changed = compared.filter(pl.col("existing_hash") != pl.col("hash"))
    removed = existing.join(desired, on="id", how="anti")["id"]
    keys_of_removed = removed.str.extract(r"^(\d+)").cast(pl.Int64).unique()
    lost_keys = keys_of_removed.filter(~keys_of_removed.is_in(views[form.key].implode()))
    return IndexPlan(
        _documents(views, form, added["id"]),
        _documents(views, form, changed["id"]),
        removed.to_list(),
        desired.height,
        existing_count,
        lost_keys,
    )


def _documents(views: pl.DataFrame, form: DocumentForm, ids: pl.Series) -> pl.DataFrame:
    """Encode the documents with these ids; on a quiet night they are few."""
    return encode(views.filter(pl.col("documentId").is_in(ids.implode())), form)


def _bucket(key: int | None) -> int | None:
    return None if key is None else key // KEYS_PER_BUCKET
