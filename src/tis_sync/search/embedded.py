"""Embedded search on Tantivy, in folders on this machine, for one process at a time.

So nobody else writes to an index: there are no foreign documents, and documents need no versions.

FOLDER/persons.alias    the name of the index that readers see; replaced in one step
FOLDER/persons-BUILD/   an index, with `tis_sync.json` beside the files of Tantivy
"""

import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import tantivy

from tis_sync.errors import SchemaError, StorageFullError, TisSyncError, UsageError
from tis_sync.search.documents import words_of
from tis_sync.search.model import (
    DOCUMENT_SCHEMA,
    NO_INDEX,
    SYNC,
    VERSION_SCHEMA,
    Delivery,
    Hits,
    IndexSpec,
    LiveIndex,
    Position,
    Query,
)

WRITER_BYTES = 128_000_000
META = "tis_sync.json"
MOST_BUCKETS = 60_000  # in one aggregation; the limit of Tantivy is 65,000


def _schema() -> tantivy.Schema:
    """The same schema for every index: filter fields are inside the JSON field `body`."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("bucket", indexed=True, fast=True)
    builder.add_integer_field("hash", stored=True, fast=True)
    builder.add_text_field("sort", tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_text_field("terms", tokenizer_name="raw", index_option="basic")
    builder.add_json_field("body", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


class EmbeddedEngine:
    """`SearchEngine` in a folder on this machine.

    Args:
        folder: the folder for the indexes; `check` creates it.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schema = _schema()
        self._open: dict[str, tantivy.Index] = {}
        self._lock = threading.RLock()

    def check(self) -> None:
        """Create the folder if necessary, and check that it is writable."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The search folder {self._folder} cannot be created: {error.strerror}; "
                "check TIS_SYNC_SEARCH_URL."
            ) from None
        if not os.access(self._folder, os.W_OK):
            raise UsageError(
                f"The search folder {self._folder} is not writable; check TIS_SYNC_SEARCH_URL."
            )

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """The index behind the alias, or None."""
        name = self._live_name(spec)
        if name is None:
            return None
        meta = json.loads((self._folder / name / META).read_text())
        documents = self.refresh(name)
        return LiveIndex(
            name, ours=True, version=meta["version"], documents=documents, names=(name,)
        )

    def exists(self, spec: IndexSpec, index: str) -> bool:  # noqa: ARG002
        """Whether an index of that name exists."""
        return (self._folder / index / META).exists()

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create the empty index of a build, unless it exists; readers do not see it."""
        name = f"{spec.alias}-{build}"
        folder = self._folder / name
        with self._lock, self._storage():
            if not (folder / META).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                tantivy.Index(self._schema, path=str(folder))
                (folder / META).write_text(json.dumps({"version": spec.version}))
        return name

    def write(
        self,
        index: str,
        documents: Iterable[pl.DataFrame],
        deletes: pl.DataFrame | None = None,
    ) -> Delivery:
        """Write documents (id, bucket, hash, body) to an index and delete ids, in one commit."""
        written = 0
        surplus = [] if deletes is None else deletes["id"].to_list()
        with self._lock, self._storage():
            opened = self._index(index)
            fresh = opened.searcher().num_docs == 0
            with opened.writer(heap_size=WRITER_BYTES, num_threads=1) as writer:
                for old in surplus:
                    writer.delete_documents_by_term("id", old)
                for part in documents:
                    if not fresh:
                        for old in part["id"]:
                            writer.delete_documents_by_term("id", old)
                    for line in _lines(part):
                        writer.add_json(line)
                    written += part.height
                writer.commit()
                writer.wait_merging_threads()
            opened.reload()
        return Delivery(written=written, deleted=len(surplus))

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """The buckets from `low` up to but excluding `high`: bucket, count, total (all Int64)."""
        searcher = self._searcher(index)
        aggregation: dict[str, Any] = {
            "sums": {
                "terms": {"field": "bucket", "size": MOST_BUCKETS},
                "aggs": {"total": {"sum": {"field": "hash"}}},
            }
        }
        answer = searcher.aggregate(self._range("bucket", low, high), aggregation)["sums"]
        if answer.get("sum_other_doc_count"):
            raise TisSyncError(
                f"{index}: too many documents for one comparison; lower TIS_SYNC_PARTITION_KEYS."
            )
        rows = [
            (int(b["key"]), int(b["doc_count"]), int(b["total"]["value"]))
            for b in answer["buckets"]
        ]
        schema = {"bucket": pl.Int64, "count": pl.Int64, "total": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row").sort("bucket")

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents in the given buckets, with the columns of `DOCUMENT_SCHEMA`."""
        searcher = self._searcher(index)
        query = tantivy.Query.term_set_query(self._schema, "bucket", list(buckets))
        hits = searcher.search(query, limit=max(1, searcher.num_docs)).hits
        stored = [searcher.doc(address) for _, address in hits]
        nothing = [None] * len(stored)
        columns = {
            "bucket": [document.to_dict()["body"][0][SYNC]["bucket"] for document in stored],
            "hash": [document.get_first("hash") for document in stored],
            "id": [document.get_first("id") for document in stored],
            "seq_no": nothing,
            "primary_term": nothing,
        }
        return pl.DataFrame(columns, schema=DOCUMENT_SCHEMA)

    def versions(self, index: str, ids: Sequence[str]) -> pl.DataFrame:  # noqa: ARG002
        """Return an empty frame, because every document is in the bucket of its key."""
        return pl.DataFrame(schema=VERSION_SCHEMA)

    def foreign(self, index: str, until: Sequence[int] | None = None) -> pl.DataFrame:  # noqa: ARG002
        """Return an empty frame, because nobody else writes."""
        return pl.DataFrame(schema=VERSION_SCHEMA)

    def position(self, indexes: Sequence[str]) -> Position:
        """Always the same, because nobody else writes."""
        return {name: [] for name in indexes if (self._folder / name / META).exists()}

    def documents(self, index: str, field: str, keys: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The documents, by id, in which a field has one of a few values."""
        conditions = [
            (
                tantivy.Occur.Should,
                tantivy.Query.term_query(self._schema, f"body.{field}", key),
            )
            for key in keys
        ]
        if not conditions:
            return {}
        searcher = self._searcher(index)
        query = tantivy.Query.boolean_query(conditions)
        hits = searcher.search(query, limit=max(1, searcher.num_docs)).hits
        found = [searcher.doc(address).to_dict() for _, address in hits]
        return {document["id"][0]: document["body"][0] for document in found}

    def refresh(self, index: str) -> int:
        """Make everything that was written visible; return the number of documents."""
        return int(self._searcher(index).num_docs)

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias by replacing its file; keep the previous index, drop older ones."""
        with self._lock, self._storage():
            previous = self._live_name(spec)
            if previous == index:
                return
            if not self.exists(spec, index):
                raise SchemaError(f"There is no index {index} to publish; it was dropped.")
            draft = self._folder / f"{spec.alias}.alias.new"
            draft.write_text(index)
            draft.replace(self._folder / f"{spec.alias}.alias")
            for folder in self._folder.glob(f"{spec.alias}-*"):
                if folder.name not in {index, previous}:
                    self._delete(folder.name)

    def drop(self, spec: IndexSpec, index: str) -> None:
        """Drop the index of a build, unless it is behind the alias."""
        with self._lock:
            if self._live_name(spec) != index:
                self._delete(index)

    def _delete(self, index: str) -> None:
        self._open.pop(index, None)
        shutil.rmtree(self._folder / index, ignore_errors=True)

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Find documents in which every query word begins some word and every filter matches."""
        name = self._live_name(spec)
        if name is None:
            raise SchemaError(NO_INDEX.format(alias=spec.alias))
        conditions = [
            tantivy.Query.regex_query(self._schema, "terms", word + ".*")
            for word in words_of(query.text)
        ]
        for filter_name, value in query.where:
            field, typed = spec.filter_named(filter_name).field_for(value)
            path = "body." + field.removesuffix(".keyword")
            conditions.append(tantivy.Query.term_query(self._schema, path, typed))
        combined = tantivy.Query.all_query()
        if conditions:
            combined = tantivy.Query.boolean_query([(tantivy.Occur.Must, c) for c in conditions])
        searcher = self._searcher(name)
        answer = searcher.search(
            combined, limit=max(1, query.limit), order_by_field="sort", order=tantivy.Order.Asc
        )
        bodies = [
            searcher.doc(address).to_dict()["body"][0] for _, address in answer.hits[: query.limit]
        ]
        for body in bodies:
            del body[SYNC]
        return Hits(_count(answer), bodies)

    def _range(self, field: str, low: int | None, high: int | None) -> tantivy.Query:
        if low is None and high is None:
            return tantivy.Query.all_query()
        return tantivy.Query.range_query(
            self._schema,
            field,
            tantivy.FieldType.Integer,
            lower_bound=-(2**62) if low is None else low,
            upper_bound=2**62 if high is None else high,
            include_lower=True,
            include_upper=False,
        )

    def _live_name(self, spec: IndexSpec) -> str | None:
        """The index behind the alias; None if there is none, or if somebody deleted it."""
        try:
            name = (self._folder / f"{spec.alias}.alias").read_text()
        except FileNotFoundError:
            return None
        return name if self.exists(spec, name) else None

    def _index(self, name: str) -> tantivy.Index:
        with self._lock:
            if name not in self._open:
                self._open[name] = tantivy.Index.open(str(self._folder / name))
            return self._open[name]

    def _searcher(self, name: str) -> tantivy.Searcher:
        with self._lock:
            index = self._index(name)
            index.reload()
            return index.searcher()

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Translate the errors with which Tantivy and Python report a full disk.

        Raises:
            StorageFullError: the disk of the folder is full.

        """
        try:
            yield
        except (OSError, ValueError) as error:
            if is_disk_full(error, self._folder):
                raise StorageFullError(
                    f"The disk under {self._folder} is full; free some space there, or set "
                    "TIS_SYNC_HOME to a folder on another disk. The previous index still serves "
                    "readers."
                ) from error
            raise


def is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether an error from Tantivy or Python means that the disk of a folder is full.

    Tantivy's errors have no codes, only text. If one of its threads finds the disk full, the error
    does not even contain the cause; then the free space decides.
    """
    text = str(error)
    if "No space left" in text or "File too large" in text:
        return True
    return "writer was killed" in text and shutil.disk_usage(folder).free < WRITER_BYTES


def _lines(documents: pl.DataFrame) -> pl.Series:
    """Convert documents (id, bucket, hash, body) to the lines of JSON that Tantivy accepts."""
    return documents.select(
        pl.concat_str(
            pl.lit('{"id":"'),
            "id",
            pl.lit('","bucket":'),
            "bucket",
            pl.lit(',"hash":'),
            "hash",
            pl.lit(',"sort":"'),
            pl.col("body").str.json_path_match(f"$.{SYNC}.sort"),
            pl.lit('","terms":'),
            pl.col("body").str.json_path_match(f"$.{SYNC}.terms"),
            pl.lit(',"body":'),
            "body",
            pl.lit("}"),
        )
    ).to_series()


def _count(answer: Any) -> int:
    """The number of documents that match; Tantivy's type hints omit this attribute."""
    return int(answer.count)
