"""The vocabulary of search: documents, indexes, queries, and what an engine does.

A document is a row of a frame, already encoded so that every engine stores the same:

| column | type | meaning |
|---|---|---|
| id | String | unique and stable; it distinguishes the placements of a person |
| bucket | Int64 | a group of neighbouring keys, compared as a whole before its documents are |
| hash | Int64 | a 48-bit hash of all fields: documents with equal hashes are considered equal |
| body | String | the JSON object, with our own fields in `tisSync` |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from json import dumps
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import UsageError

SYNC = "tisSync"  # our own object in each document, and in an index's _meta

# A bucket of sixteen keys has about twenty documents, so the sum of their 48-bit hashes stays below
# 2**53 and is exact in the doubles that search servers use for sums. And a night that changes one
# person in a hundred fetches the hashes of a sixth of the buckets, not of all.
KEYS_PER_BUCKET = 16
HASH_BITS = 48
NO_INDEX = "There is no index {alias} yet. Build it first: `tis-sync night`."
ENCODING = 2  # increase when `tis_sync.search.documents` derives words or sort keys differently


class FieldType(Enum):
    """How a field of a document is stored; it has one value, or a list of values, of that type."""

    LONG = "long"  # a whole number
    KEYWORD = "keyword"  # text that is matched as a whole
    TEXT = "text"  # text that is matched by its words
    TEXT_AND_KEYWORD = "text and keyword"  # by its words, and as a whole under FIELD.keyword


KEYWORD_PROPERTY = {"type": "keyword", "ignore_above": 8191}  # Lucene's limit is 32,766 bytes
PROPERTIES: Mapping[FieldType, Mapping[str, Any]] = {
    FieldType.LONG: {"type": "long"},
    FieldType.KEYWORD: KEYWORD_PROPERTY,
    FieldType.TEXT: {"type": "text"},
    FieldType.TEXT_AND_KEYWORD: {"type": "text", "fields": {"keyword": KEYWORD_PROPERTY}},
}
Fields = Mapping[str, "FieldType | Mapping[str, FieldType]"]
"""The fields of a document, in the order in which they are encoded.

A mapping in place of a type stands for a list of objects with these fields.
"""


@dataclass(frozen=True)
class Filter:
    """Something that a query can filter on.

    Attributes:
        name: what users call it ("grade").
        number: the field of the document for a whole number ("gradeId"), or None.
        text: the field of the document for any other value ("gradeAbbreviation"), or None.
        nested: the list of objects that the fields belong to, or None.

    """

    name: str
    number: str | None = None
    text: str | None = None
    nested: str | None = None

    def field_for(self, value: str) -> tuple[str, int | str]:
        """Return the field and the typed value that a user's text stands for.

        Raises:
            UsageError: the filter takes a number, and the text is not a number.

        """
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
    """An index: its alias, its fields, and what a query can filter on.

    Attributes:
        alias: the name that readers use.
        fields: the fields of a document, without `tisSync`.
        filters: what a query can filter on.

    """

    alias: str
    fields: Fields
    filters: tuple[Filter, ...]

    def properties(self) -> dict[str, Any]:
        """The Elasticsearch mapping of all fields, our own included."""
        sync_fields = {
            "hash": {"type": "long"},
            "bucket": {"type": "integer"},
            "terms": {"type": "keyword"},
            "sort": {"type": "keyword"},
        }
        return {**_properties(self.fields), SYNC: {"properties": sync_fields}}

    @property
    def version(self) -> str:
        """Changes with the fields, filters or hashing; a new version causes a rebuild."""
        filters = [(f.name, f.number, f.text, f.nested) for f in self.filters]
        text = dumps(
            [self.properties(), filters, KEYS_PER_BUCKET, HASH_BITS, ENCODING, pl.__version__]
        )
        return sha256(text.encode()).hexdigest()[:16]

    def filter_named(self, name: str) -> Filter:
        """Find a filter by name; case does not matter.

        Raises:
            UsageError: there is none; the message lists the filters.

        """
        for candidate in self.filters:
            if candidate.name.lower() == name.lower():
                return candidate
        names = ", ".join(f.name for f in self.filters)
        raise UsageError(f"{self.alias} cannot be filtered on {name!r}. The filters are: {names}.")


def _properties(fields: Fields) -> dict[str, Any]:
    """The Elasticsearch properties of fields, by type; the order of fields does not matter."""
    simple = {
        name: property_
        for field_type, property_ in PROPERTIES.items()
        for name, declared in fields.items()
        if declared is field_type
    }
    nested = {
        name: {"type": "nested", "properties": _properties(declared)}
        for name, declared in fields.items()
        if not isinstance(declared, FieldType)
    }
    return {**simple, **nested}


@dataclass(frozen=True)
class Query:
    """A query to an index.

    Attributes:
        text: words; each must begin some word of a document.
        where: pairs of a filter name and a value; all must match.
        limit: the maximum number of documents in the answer.

    """

    text: str = ""
    where: tuple[tuple[str, str], ...] = ()
    limit: int = 20


@dataclass(frozen=True)
class Hits:
    """The answer to a query.

    Attributes:
        total: the number of documents that match.
        documents: the first of them, sorted by name, then by id.

    """

    total: int
    documents: list[dict[str, Any]]


@dataclass(frozen=True)
class LiveIndex:
    """The index behind an alias.

    Attributes:
        name: the concrete index. If there are several, the best one: ours, with most documents.
        ours: whether we built it, according to its `_meta`; if not, the Java service left it.
        version: the `IndexSpec.version` it was built with; None if it is not ours.
        documents: the number of documents in it, which is what readers see.
        foreign: how many of them are foreign: others wrote them into our index.
        names: all indexes behind the alias. There is only one, unless somebody changed the alias.
        blocks: what the server refuses for the index ("write", "read_only_allow_delete").

    """

    name: str
    ours: bool
    version: str | None
    documents: int
    names: tuple[str, ...]
    foreign: int = 0
    blocks: tuple[str, ...] = ()

    @property
    def own_documents(self) -> int:
        """The number of documents that a new index replaces, and should not lose."""
        return self.documents - self.foreign

    def fits(self, spec: IndexSpec) -> bool:
        """Whether it can be changed in place: the only index, ours, and of the same version."""
        return self.ours and self.version == spec.version and len(self.names) == 1


@dataclass
class Delivery:
    """The outcome for documents that were sent to an engine.

    Attributes:
        written, deleted: the numbers of documents written and deleted.
        refused: ids and reasons of documents that the engine refuses permanently.
        conflicts: the number of documents that did not have the expected version.

    """

    written: int = 0
    deleted: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    conflicts: int = 0


Position = dict[str, list[int]]
"""How far indexes were written: the last sequence number of each shard, by name of the index.

It grows with every document that anybody writes or deletes.
"""

VERSION_SCHEMA = {"id": pl.String, "seq_no": pl.Int64, "primary_term": pl.Int64}
"""Documents of an index with their versions, which are null if the engine has none.

A write that carries a version is refused if somebody has changed the document in the meantime.
"""

DOCUMENT_SCHEMA = {"bucket": pl.Int64, "hash": pl.Int64, **VERSION_SCHEMA}


class SearchEngine(Protocol):
    """What we need from a search engine. All three engines behave in the same way."""

    def check(self) -> None:
        """Check that the server answers, and that its version is supported.

        Raises:
            UnreachableError: it does not answer, or refuses the user.
            SchemaError: its product or version is not supported.
            UsageError: the folder of the embedded engine is not writable.

        """

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """The index behind the alias, or None."""

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create the empty index of a build, unless it exists; readers do not see it.

        Returns:
            The name of the index.

        """

    def write(
        self,
        index: str,
        documents: Iterable[pl.DataFrame],
        deletes: pl.DataFrame | None = None,
    ) -> Delivery:
        """Write documents to an index, then delete documents from it.

        Args:
            index: its name.
            documents: frames of documents (id, bucket, hash, body). They are consumed lazily: the
                next one can be prepared while the last one is being sent. With the columns of a
                version, only documents of this version are replaced; null: there is none yet.
            deletes: documents (id), maybe with their versions.

        Raises:
            DeliveryError: the server kept refusing documents.
            IndexUnavailableError: the index is blocked, closed or gone.
            PlanOutdatedError: some documents have other versions; the others were written.

        """

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """The buckets of an index, from `low` (included) to `high` (excluded).

        Returns:
            A row per bucket: bucket, count of documents, total of their hashes (all Int64). If
            `low` is None and there are foreign documents, their bucket is null.

        """

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents in the given buckets, with the columns of `DOCUMENT_SCHEMA`."""

    def versions(self, index: str, ids: Sequence[str]) -> pl.DataFrame:
        """Those of the given documents that exist, whatever is in them (`VERSION_SCHEMA`)."""

    def foreign(self, index: str, until: Sequence[int] | None = None) -> pl.DataFrame:
        """The foreign documents: those that we did not write (`VERSION_SCHEMA`).

        Args:
            index: its name.
            until: only those written up to this position of the index.

        """

    def position(self, indexes: Sequence[str]) -> Position:
        """How far the indexes were written; indexes that do not exist are left out."""

    def documents(self, index: str, field: str, keys: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The documents, by id, in which a field has one of a few values; foreign ones included."""

    def refresh(self, index: str) -> int:
        """Make everything that was written visible; return the number of documents."""

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias to the index, and only to this one, in one step.

        The indexes that were behind the alias are kept, because readers may still be reading them;
        older ones are dropped.
        """

    def drop(self, spec: IndexSpec, index: str) -> None:
        """Drop the index of a build unless it is behind the alias; then it cannot be published.

        Either this or a publication at the same moment succeeds, never both.
        """

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Answer a query; every engine gives the same answer for the same documents.

        Raises:
            SchemaError: there is no index yet.
            UsageError: the query names an unknown filter.

        """

    def exists(self, spec: IndexSpec, index: str) -> bool:
        """Whether an index of that name exists."""
