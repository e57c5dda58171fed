"""A search engine over the REST interface that Elasticsearch and OpenSearch share.

The `_meta` of a mapping marks an index as ours. Each index has a separate alias for writing, so
that a chunk can never create an index by accident. The alias that readers use points to a single
index, and is switched in one request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import IndexUnavailableError, SchemaError, TisSyncError
from tis_sync.logs import get
from tis_sync.search import contents
from tis_sync.search.bulk import BulkWriter
from tis_sync.search.contents import SORT, TERMS
from tis_sync.search.documents import words_of
from tis_sync.search.model import (
    NO_INDEX,
    SYNC,
    Delivery,
    Filter,
    Hits,
    IndexSpec,
    LiveIndex,
    Position,
    Query,
)
from tis_sync.search.response import Refusal, Response, error_for

JSON = {"content-type": "application/json", "accept": "application/json"}
# No ids: outcomes arrive in the order of the documents, and there are millions of them.
BULK_ANSWER = "errors,items.*.status,items.*.error"
# The aliases may change between reading and switching them.
SWITCH_ATTEMPTS = 3


class Transport(Protocol):
    """What we need from a server's official client.

    Attributes:
        product: the name of the server's product.
        address: the server's URL without user and password, for messages.

    """

    product: str
    address: str

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Response:
        """Send one request; the status of the response is 0 if the connection failed."""


class RestEngine:
    """`SearchEngine` for Elasticsearch and OpenSearch.

    Args:
        transport: sends requests to the server.
        writer: delivers documents.
        unsupported: returns why a server is not supported, given its answer to GET /, or None.
        shards, replicas: settings of the indexes that we build.

    """

    def __init__(
        self,
        transport: Transport,
        writer: BulkWriter,
        unsupported: Callable[[Mapping[str, Any]], str | None],
        shards: int,
        replicas: int,
    ) -> None:
        self._transport = transport
        self._server = f"{transport.product} at {transport.address}"
        self._writer = writer
        self._unsupported = unsupported
        self._shards = shards
        self._replicas = replicas

    def check(self) -> None:
        """Check that the server answers, and that its version is supported."""
        response = self._transport.request("GET", "/", None, JSON)
        problem = self._unsupported(self._answer(response))
        if problem:
            raise SchemaError(f"{self._server}: {problem}; check TIS_SYNC_SEARCH_URL.")

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """The index behind the alias, or None."""
        indexes = self._behind(spec)
        if not indexes:
            return None
        counts = {name: contents.counts(self._call, name) for name in indexes}
        name = max(indexes, key=lambda n: (bool(_meta(indexes[n])), counts[n], n))
        meta = _meta(indexes[name])
        total, foreign = counts[name]
        blocks = indexes[name]["settings"]["index"].get("blocks", {})
        return LiveIndex(
            name,
            ours=bool(meta),
            version=meta.get("version"),
            documents=total,
            foreign=foreign if meta else 0,
            names=tuple(sorted(indexes)),
            blocks=tuple(sorted(block for block, value in blocks.items() if value == "true")),
        )

    def _behind(self, spec: IndexSpec) -> dict[str, Any]:
        """The indexes behind the alias, or an index with its name: descriptions by name."""
        response = self._transport.request("GET", f"/{spec.alias}", None, JSON)
        if response.refusal == Refusal.GONE:
            return {}
        indexes: dict[str, Any] = self._answer(response)
        return indexes

    def exists(self, spec: IndexSpec, index: str) -> bool:  # noqa: ARG002
        """Whether an index of that name exists."""
        response = self._transport.request("GET", f"/{index}", None, JSON)
        if response.refusal == Refusal.GONE:
            return False
        self._answer(response)
        return True

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create the empty index of a build, unless it exists; readers do not see it."""
        name = f"{spec.alias}-{build}"
        if self.exists(spec, name):
            return name
        self._call(
            "PUT",
            f"/{name}",
            {
                "settings": {
                    "number_of_shards": self._shards,
                    "number_of_replicas": 0,
                    "refresh_interval": "-1",
                },
                "mappings": {
                    "_meta": {SYNC: {"alias": spec.alias, "version": spec.version}},
                    "properties": spec.properties(),
                },
                "aliases": {_write_alias(name): {"is_write_index": True}},
            },
        )
        return name

    def write(
        self,
        index: str,
        documents: Iterable[pl.DataFrame],
        deletes: pl.DataFrame | None = None,
    ) -> Delivery:
        """Write documents to an index, then delete documents from it; see `SearchEngine.write`."""
        path = f"/{_write_alias(index)}/_bulk?require_alias=true&filter_path={BULK_ANSWER}"
        return self._writer.deliver(
            lambda body: self._transport.request("POST", path, body, JSON), documents, deletes
        )

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """The buckets from `low` up to but excluding `high`: bucket, count, total (all Int64)."""
        return contents.sums(self._call, index, low, high)

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents in the given buckets, with the columns of `DOCUMENT_SCHEMA`."""
        return contents.hashes(self._call, index, buckets)

    def versions(self, index: str, ids: Sequence[str]) -> pl.DataFrame:
        """Those of the given documents that exist, whatever is in them (`VERSION_SCHEMA`)."""
        return contents.versions(self._call, index, ids)

    def foreign(self, index: str, until: Sequence[int] | None = None) -> pl.DataFrame:
        """The documents that we did not write, up to a position (`VERSION_SCHEMA`)."""
        return contents.foreign(self._call, index, until)

    def position(self, indexes: Sequence[str]) -> Position:
        """How far the indexes were written; indexes that do not exist are left out."""
        return contents.position(self._call, indexes)

    def documents(self, index: str, field: str, keys: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The documents, by id, in which a field has one of a few values."""
        return contents.documents(self._call, index, field, keys)

    def refresh(self, index: str) -> int:
        """Make everything that was written visible; return the number of documents."""
        shards = self._call("POST", f"/{index}/_refresh", None)["_shards"]
        if shards["failed"]:
            raise IndexUnavailableError(
                f"{self._server} cannot refresh {shards['failed']} of {shards['total']} shards of "
                f"{index}; check the state of the cluster. The existing index stays as it is."
            )
        total, _ = contents.counts(self._call, index)
        return total

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias to the index in one request; keep what was behind it, drop older ones.

        Raises:
            IndexUnavailableError: an index is blocked, or the aliases keep changing.

        """
        behind = set(self._behind(spec))
        if behind == {index}:
            return
        self._call(
            "PUT",
            f"/{index}/_settings",
            {"index": {"number_of_replicas": self._replicas, "refresh_interval": None}},
        )
        kept = {index} | behind
        for _ in range(SWITCH_ATTEMPTS):
            response = self._switch(spec, index, behind)
            behind = set(self._behind(spec))
            kept |= behind
            if behind == {index}:
                break
            if response.refusal not in {None, Refusal.GONE, Refusal.DOCUMENT}:
                self._answer(response)
        else:
            self._answer(response)
            raise IndexUnavailableError(
                f"{self._server}: the alias {spec.alias} keeps changing; it now points to "
                f"{', '.join(sorted(behind))}."
            )
        for name, description in self._call("GET", f"/{spec.alias}-*", None).items():
            if _meta(description).get("alias") == spec.alias and name not in kept:
                self._drop_old(name)

    def _switch(self, spec: IndexSpec, index: str, behind: set[str]) -> Response:
        """Move the alias from the indexes that are behind it to another one, in one request.

        The request fails as a whole if the index is being dropped (see `drop`).
        """
        actions = [_claim(index, index)]
        actions += [
            # An index with the alias's name has to go: there cannot be both.
            {"remove_index": {"index": name}}
            if name == spec.alias
            else {"remove": {"index": name, "alias": spec.alias}}
            for name in sorted(behind - {index})
        ]
        actions.append({"add": {"index": index, "alias": spec.alias}})
        return self._transport.request("POST", "/_aliases", {"actions": actions}, JSON)

    def _drop_old(self, index: str) -> None:
        """Drop an older index; if that fails, the next publication tries again."""
        try:
            self._delete(index)
        except TisSyncError as error:
            get().warning("old index not dropped", index=index, reason=str(error))

    def drop(self, spec: IndexSpec, index: str) -> None:
        """Drop the index of a build, unless it is behind the alias.

        A claim decides between this and a publication at the same moment: an alias that can have
        one write index only. `_switch` gives it to the new index, and this to the live one.
        """
        live = sorted(self._behind(spec))
        if index in live:
            return
        if live:
            response = self._transport.request(
                "POST", "/_aliases", {"actions": [_claim(live[0], index)]}, JSON
            )
            if response.refusal is not None and index in self._behind(spec):
                return  # published in the meantime
            self._answer(response)
        self._delete(index)
        if live:
            unclaim = {"remove": {"index": live[0], "alias": _claim_alias(index)}}
            self._unless_gone("POST", "/_aliases", {"actions": [unclaim]})

    def _delete(self, index: str) -> None:
        self._unless_gone("DELETE", f"/{index}", None)

    def _unless_gone(self, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        response = self._transport.request(method, path, body, JSON)
        if response.refusal != Refusal.GONE:
            self._answer(response)

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Find documents in which every query word begins some word and every filter matches."""
        conditions: list[dict[str, Any]] = [
            {"prefix": {TERMS: {"value": word}}} for word in words_of(query.text)
        ]
        conditions += [_condition(spec.filter_named(name), value) for name, value in query.where]
        response = self._transport.request(
            "POST",
            f"/{spec.alias}/_search",
            {
                "size": query.limit,
                "track_total_hits": True,
                "query": {"bool": {"filter": conditions}},
                "sort": [{SORT: "asc"}],
                "_source": {"excludes": [SYNC]},
            },
            JSON,
        )
        if response.refusal == Refusal.GONE:
            raise SchemaError(NO_INDEX.format(alias=spec.alias))
        hits = self._answer(response)["hits"]
        return Hits(hits["total"]["value"], [hit["_source"] for hit in hits["hits"]])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._answer(self._transport.request(method, path, body, JSON))

    def _answer(self, response: Response) -> Any:
        if response.refusal is not None:
            raise error_for(response, self._server)
        return response.data


def _write_alias(index: str) -> str:
    return f"{index}-write"


def _claim_alias(index: str) -> str:
    return f"{index}-claim"


def _claim(owner: str, index: str) -> dict[str, Any]:
    """An action that gives the claim on an index to an index; it fails if another one has it."""
    return {"add": {"index": owner, "alias": _claim_alias(index), "is_write_index": True}}


def _meta(description: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = description.get("mappings", {}).get("_meta", {}).get(SYNC, {})
    return meta


def _condition(criterion: Filter, value: str) -> dict[str, Any]:
    field, typed = criterion.field_for(value)
    condition: dict[str, Any] = {"term": {field: typed}}
    if criterion.nested is None:
        return condition
    return {"nested": {"path": criterion.nested, "query": condition}}
