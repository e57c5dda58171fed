"""The vocabulary of search: documents, indexes, queries, and what an engine can do.

A document is a row of a frame, already encoded, so that every engine stores the same:

| column | type | meaning |
|---|---|---|
| id | String | stable: tells person and placement apart |
| bucket | Int64 | group of neighbouring keys: its sums are compared before its documents |
| hash | Int64 | 48 bits of the hash of all fields: equal hashes, equal documents |
| body | String | the JSON object, with our own fields in `tisSync` |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from typing import Any, Literal, Protocol

import polars as pl

from tis_sync.errors import UsageError

SYNC = "tisSync"  # the object in each document, and in an index's _meta, that is ours

# Sixteen keys a bucket: with about twenty documents in it, the sum of their 48-bit hashes stays
# below 2**53, exact in the doubles that search servers sum in; and a night that changes one
# person in a hundred fetches the hashes of a sixth of the buckets, not of all.
KEYS_A_BUCKET = 16
HASH_BITS = 48
ENCODING = 2  # to be raised when `tis_sync.search.documents` derives words or sort keys otherwise

FieldKind = Literal["keyword", "number", "text"]


@dataclass(frozen=True)
class Filter:
    """One thing that a query can filter on.

    Attributes:
        name: what a user calls it ("grade").
        number: the document's field for a whole number ("gradeId"), or None.
        text: the document's field for any other value ("gradeAbbreviation"), or None.
        nested: the list of objects that the fields belong to, or None.

    """

    name: str
    number: str | None = None
    text: str | None = None
    nested: str | None = None

    def field_for(self, value: str) -> tuple[str, int | str]:
        """The field and the typed value that a user's text stands for."""
        if self.number is not None and (value.isdecimal() or self.text is None):
            try:
                return self.number, int(value)
            except ValueError:
                raise UsageError(
                    f"{self.name}={value}: {self.name} is a number, for example {self.name}=12."
                ) from None
        assert self.text is not None
        return self.text, value


@dataclass(frozen=True)
class IndexSpec:
    """An index: its alias, how its fields are stored, and what can be asked of it.

    Attributes:
        alias: the name that readers use.
        mapping: Elasticsearch properties by field, of the documents without `tisSync`.
        filters: what a query can filter on.

    """

    alias: str
    mapping: Mapping[str, Any]
    filters: tuple[Filter, ...]

    def properties(self) -> dict[str, Any]:
        """The full mapping, our own fields included."""
        ours = {
            "hash": {"type": "long"},
            "bucket": {"type": "integer"},
            "terms": {"type": "keyword"},
            "sort": {"type": "keyword"},
        }
        return {**self.mapping, SYNC: {"properties": ours}}

    @property
    def version(self) -> str:
        """Changes when mapping, filters or the way of hashing do: then the index is built anew."""
        filters = [(f.name, f.number, f.text, f.nested) for f in self.filters]
        text = dumps(
            [self.properties(), filters, KEYS_A_BUCKET, HASH_BITS, ENCODING, pl.__version__]
        )
        return sha256(text.encode()).hexdigest()[:16]

    def filter_named(self, name: str) -> Filter:
        """The filter of that name, in any case of letters.

        Raises:
            UsageError: there is none; the message lists those there are.

        """
        for candidate in self.filters:
            if candidate.name.lower() == name.lower():
                return candidate
        names = ", ".join(f.name for f in self.filters)
        raise UsageError(f"{self.alias} cannot be filtered on {name!r}; known are: {names}.")


@dataclass(frozen=True)
class Query:
    """A question: words that must all begin some word of a document, and filters that must hold."""

    text: str = ""
    where: tuple[tuple[str, str], ...] = ()
    limit: int = 20


@dataclass(frozen=True)
class Hits:
    """The answer: how many documents fit, and the first of them by name, then by id."""

    total: int
    documents: list[dict[str, Any]]


@dataclass(frozen=True)
class LiveIndex:
    """What stands behind an alias now.

    Attributes:
        name: the concrete index.
        ours: built by us, as its `_meta` says, rather than left by the Java service.
        version: the `IndexSpec.version` it was built with; None if not ours.
        documents: how many it holds.

    """

    name: str
    ours: bool
    version: str | None
    documents: int


@dataclass
class Delivery:
    """What became of documents sent to an engine."""

    written: int = 0
    deleted: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Ids and reasons of documents that the engine will never take: bad data, one record each."""


class SearchEngine(Protocol):
    """What the rest needs of a search server; three of them do it alike."""

    def check(self) -> None:
        """Raise unless the server answers and is of a version that we support."""

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """What the alias points to; None: nothing."""

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create (or find again) the empty index of a build; return its name. Nobody reads it."""

    def write(
        self, index: str, documents: Iterable[pl.DataFrame], deletes: Sequence[str] = ()
    ) -> Delivery:
        """Put documents into an index, then delete ids from it.

        Args:
            index: its name.
            documents: frames of documents (id, bucket, hash, body), taken as they are needed: the
                next may be made while the last is on its way.
            deletes: ids of documents.

        Raises:
            DeliveryError: the server kept refusing.

        """

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """Buckets of an index, from `low` to before `high`: bucket, count, total (Int64)."""

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents of some buckets: id (String), hash (Int64)."""

    def refresh(self, index: str) -> int:
        """Make all that was written visible; return how many documents the index holds."""

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias to the index in one step; keep the previous one, drop older ones."""

    def abandon(self, index: str) -> None:
        """Drop an index that was never published."""

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Answer a query; the same answer from every engine on the same documents."""

    def exists(self, spec: IndexSpec, index: str) -> bool:
        """Whether an index of that name is there."""
