"""Embedded search on Tantivy: folders on this machine, for one process at a time.

FOLDER/persons.alias           the name of the index that readers see, replaced in one step
FOLDER/persons-BUILD/          an index, with `tis_sync.json` beside Tantivy's own files
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
from tis_sync.search.model import SYNC, Delivery, Hits, IndexSpec, LiveIndex, Query

WRITER_BYTES = 128_000_000
META = "tis_sync.json"
MOST_BUCKETS = 60_000  # of one aggregation; Tantivy's limit is 65,000


def _schema() -> tantivy.Schema:
    """One form for every index: what can be filtered on is inside the JSON field `body`."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("bucket", indexed=True, fast=True)
    builder.add_integer_field("hash", stored=True, fast=True)
    builder.add_text_field("sort", tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_text_field("terms", tokenizer_name="raw", index_option="basic")
    builder.add_json_field("body", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


class EmbeddedEngine:
    """`SearchEngine` in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schema = _schema()
        self._open: dict[str, tantivy.Index] = {}
        self._lock = threading.RLock()

    def check(self) -> None:
        """Raise unless the folder can be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The search folder {self._folder} cannot be made: {error.strerror}; "
                "check TIS_SYNC_SEARCH_URL."
            ) from None
        if not os.access(self._folder, os.W_OK):
            raise UsageError(
                f"The search folder {self._folder} cannot be written; check TIS_SYNC_SEARCH_URL."
            )

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """What the alias points to; None: nothing."""
        name = self._behind(spec)
        if name is None:
            return None
        meta = json.loads((self._folder / name / META).read_text())
        return LiveIndex(name, ours=True, version=meta["version"], documents=self.refresh(name))

    def exists(self, spec: IndexSpec, index: str) -> bool:  # noqa: ARG002
        """Whether an index of that name is there."""
        return (self._folder / index / META).exists()

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create (or find again) the index of a build; return its name. Nobody reads it yet."""
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
        self, index: str, documents: Iterable[pl.DataFrame], deletes: Sequence[str] = ()
    ) -> Delivery:
        """Put documents (id, bucket, hash, body) into an index and delete ids, in one commit."""
        written = 0
        with self._lock, self._storage():
            opened = self._index(index)
            fresh = opened.searcher().num_docs == 0
            with opened.writer(heap_size=WRITER_BYTES, num_threads=1) as writer:
                for old in deletes:
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
        return Delivery(written=written, deleted=len(deletes))

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """Buckets of an index, from `low` to before `high`: bucket, count, total (Int64)."""
        searcher = self._searcher(index)
        asked: dict[str, Any] = {
            "sums": {
                "terms": {"field": "bucket", "size": MOST_BUCKETS},
                "aggs": {"total": {"sum": {"field": "hash"}}},
            }
        }
        answer = searcher.aggregate(self._range("bucket", low, high), asked)["sums"]
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
        """The documents of some buckets: id (String), hash (Int64)."""
        searcher = self._searcher(index)
        query = tantivy.Query.term_set_query(self._schema, "bucket", list(buckets))
        found = searcher.search(query, limit=max(1, searcher.num_docs)).hits
        stored = [searcher.doc(address) for _, address in found]
        return pl.DataFrame(
            {
                "id": [document.get_first("id") for document in stored],
                "hash": [document.get_first("hash") for document in stored],
            },
            schema={"id": pl.String, "hash": pl.Int64},
        )

    def refresh(self, index: str) -> int:
        """Make all that was written visible; return how many documents the index holds."""
        return int(self._searcher(index).num_docs)

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias by replacing its file; keep the previous index, drop older ones."""
        with self._lock, self._storage():
            previous = self._behind(spec)
            if previous == index:
                return
            draft = self._folder / f"{spec.alias}.alias.new"
            draft.write_text(index)
            draft.replace(self._folder / f"{spec.alias}.alias")
            for folder in self._folder.glob(f"{spec.alias}-*"):
                if folder.name not in {index, previous}:
                    self.abandon(folder.name)

    def abandon(self, index: str) -> None:
        """Drop an index that nobody reads."""
        with self._lock:
            self._open.pop(index, None)
            shutil.rmtree(self._folder / index, ignore_errors=True)

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Answer a query: every word begins some word of the document, and every filter holds."""
        name = self._behind(spec)
        if name is None:
            raise SchemaError(f"There is no index {spec.alias} yet; run `tis-sync night` first.")
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

    def _behind(self, spec: IndexSpec) -> str | None:
        try:
            return (self._folder / f"{spec.alias}.alias").read_text()
        except FileNotFoundError:
            return None

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
        """Turn a full disk, as Tantivy and Python report it, into an error for people."""
        try:
            yield
        except (OSError, ValueError) as error:
            told = "No space left" in str(error) or "File too large" in str(error)
            # A thread of Tantivy's that finds the disk full dies of it, and does not tell why.
            if told or ("writer was killed" in str(error) and self._is_full()):
                raise StorageFullError(
                    f"The disk under {self._folder} is full; make room there, or set "
                    "TIS_SYNC_HOME to another one. The index that was there still serves."
                ) from error
            raise

    def _is_full(self) -> bool:
        """Whether there is no room for what a writer holds in memory."""
        return shutil.disk_usage(self._folder).free < WRITER_BYTES


def _lines(documents: pl.DataFrame) -> pl.Series:
    """Documents in the form that Tantivy takes."""
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
    """How many documents fit; Tantivy's own type hints leave this attribute out."""
    return int(answer.count)
