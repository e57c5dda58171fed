"""Plan the changes of an index: the difference between the desired and the existing documents.

For each bucket of neighbouring keys, the index returns the number of documents and the sum of their
hashes, which is little data even for millions of documents. Only the documents in buckets that
differ are compared individually. (This is anti-entropy with a one-level hash tree.)

Others write to the index too: TCS stores its own documents when somebody edits a person. So every
planned write carries the version of the document that the plan has seen, and the server refuses it
if the document has changed since.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from tis_sync.search.documents import DocumentForm, encode, fingerprints
from tis_sync.search.model import KEYS_PER_BUCKET, VERSION_SCHEMA, SearchEngine
from tis_sync.tcs.key_ranges import KeyRange

NO_KEYS = pl.Series("key", [], dtype=pl.Int64)
VIEWS_AT_ONCE = 25_000  # encoded together; this bounds memory: a document takes about a kilobyte


@dataclass(frozen=True)
class IndexPlan:
    """The changes that turn the existing documents into the desired ones.

    Attributes:
        added, changed: documents to write (id, bucket, hash, body), with the versions of those to
            replace (seq_no, primary_term).
        removed: documents of ours to delete (id, seq_no, primary_term).
        foreign: documents that we did not write (id, seq_no, primary_term). They are in the plan of
            the lowest partition, and are deleted when all partitions have been applied, so that
            nobody is missing in between.
        lost_keys: keys (Int64) that have documents of ours and would have none: what the guard
            counts.
        considered: the number of desired documents.
        existing: the number of existing documents, without foreign ones.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    considered: int
    existing: int
    removed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=VERSION_SCHEMA))
    foreign: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=VERSION_SCHEMA))
    lost_keys: pl.Series = field(default_factory=NO_KEYS.clone)

    @property
    def lost(self) -> int:
        """The number of keys (persons or posts) whose last document is removed."""
        return self.lost_keys.len()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        frames = (self.added, self.changed, self.removed, self.foreign)
        return all(frame.is_empty() for frame in frames)


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
    desired = fingerprints(views, form)
    sums = engine.sums(index, _bucket(keys.low), _bucket(keys.high))
    buckets = sums.drop_nulls("bucket")
    has_foreign = buckets.height < sums.height
    foreign = engine.foreign(index) if has_foreign else pl.DataFrame(schema=VERSION_SCHEMA)
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
        nothing = _documents(views, form, pl.DataFrame(schema=VERSION_SCHEMA))
        return IndexPlan(nothing, nothing, desired.height, existing_count, foreign=foreign)
    existing = engine.hashes(index, differing.to_list())
    compared = desired.filter(pl.col("bucket").is_in(differing.implode())).join(
        existing.rename({"bucket": "existing_bucket", "hash": "existing_hash"}),
        on="id",
        how="left",
    )
    is_new = pl.col("existing_bucket").is_null()
    absent = compared.filter(is_new)
    # A document can be there under its id and have no bucket, or that of another partition.
    elsewhere = engine.versions(index, absent["id"].to_list())
    added = absent.join(elsewhere, on="id", how="anti")
    changed = compared.filter(
        ~is_new
        & (
            pl.col("existing_hash").ne_missing(pl.col("hash"))
            | (pl.col("existing_bucket") != pl.col("bucket"))
        )
    )
    removed = existing.join(desired, on="id", how="anti")
    return IndexPlan(
        _documents(views, form, added),
        _documents(views, form, pl.concat([changed.select(*VERSION_SCHEMA), elsewhere])),
        desired.height,
        existing_count,
        removed.select(*VERSION_SCHEMA),
        foreign,
        _lost_keys(removed["id"], views[form.key]),
    )


def _documents(views: pl.DataFrame, form: DocumentForm, versions: pl.DataFrame) -> pl.DataFrame:
    """Encode the documents with these ids, and add the versions that they replace."""
    chosen = views.filter(pl.col("documentId").is_in(versions["id"].implode()))
    return encode(chosen, form).join(
        versions.select(*VERSION_SCHEMA), on="id", how="left", maintain_order="left"
    )


def _lost_keys(removed: pl.Series, desired_keys: pl.Series) -> pl.Series:
    """The keys of removed documents (KEY or KEY-PLACEMENT) for which no document is desired."""
    keys = removed.str.split("-").list.first().cast(pl.Int64, strict=False).drop_nulls().unique()
    return keys.filter(~keys.is_in(desired_keys.implode())).rename(NO_KEYS.name)


def _bucket(key: int | None) -> int | None:
    return None if key is None else key // KEYS_PER_BUCKET
