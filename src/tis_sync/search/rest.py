"""A search engine over the REST interface that Elasticsearch and OpenSearch share.

The `_meta` of a mapping marks an index as ours. Each index has a separate alias for writing, so
that a chunk can never create an index by accident. The alias that readers use points to a single
index, and is switched in one request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import SchemaError, TisSyncError, UnreachableError
from tis_sync.search.bulk import CONNECTION_FAILED, FIRST_ERROR_STATUS, BulkWriter, Response
from tis_sync.search.documents import words_of
from tis_sync.search.model import (
    NO_INDEX,
    SYNC,
    Delivery,
    Filter,
    Hits,
    IndexSpec,
    LiveIndex,
    Query,
)

BUCKETS_PER_PAGE = 10_000  # of a composite aggregation; the servers' limit is 65,536
BUCKETS_PER_FETCH = 200
HITS_PER_PAGE = 10_000  # the default limit of the servers
UNREACHABLE_STATUSES = {502, 503, 504}
JSON = {"content-type": "application/json", "accept": "application/json"}
# No ids: outcomes arrive in the order of the documents, and there are millions of them.
BULK_ANSWER = "errors,items.*.status,items.*.error"
BUCKET, HASH = f"{SYNC}.bucket", f"{SYNC}.hash"
TERMS, SORT = f"{SYNC}.terms", f"{SYNC}.sort"


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
        self._raise_unless_reached(response)
        problem = self._unsupported(response.data)
        if problem:
            raise SchemaError(f"{self._server}: {problem}; check TIS_SYNC_SEARCH_URL.")

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """The index behind the alias, or None."""
        response = self._transport.request("GET", f"/{spec.alias}", None, JSON)
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        indexes = self._answer(response)
        name = max(indexes)
        meta = _meta(indexes[name])
        return LiveIndex(
            name,
            ours=bool(meta),
            version=meta.get("version"),
            documents=self._count(spec.alias),
        )

    def exists(self, spec: IndexSpec, index: str) -> bool:  # noqa: ARG002
        """Whether an index of that name exists."""
        response = self._transport.request("GET", f"/{index}", None, JSON)
        if response.status == HTTPStatus.NOT_FOUND:
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
        self, index: str, documents: Iterable[pl.DataFrame], deletes: Sequence[str] = ()
    ) -> Delivery:
        """Write documents (id, body) to an index, then delete ids from it.

        Raises:
            DeliveryError: the server kept refusing documents.

        """
        path = f"/{_write_alias(index)}/_bulk?require_alias=true&filter_path={BULK_ANSWER}"
        return self._writer.deliver(
            lambda body: self._transport.request("POST", path, body, JSON), documents, deletes
        )

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """The buckets from `low` up to but excluding `high`: bucket, count, total (all Int64)."""
        bounds = {k: v for k, v in (("gte", low), ("lt", high)) if v is not None}
        composite: dict[str, Any] = {
            "size": BUCKETS_PER_PAGE,
            "sources": [{"bucket": {"terms": {"field": BUCKET}}}],
        }
        body = {
            "size": 0,
            "query": {"range": {BUCKET: bounds}} if bounds else {"match_all": {}},
            "aggs": {"sums": {"composite": composite, "aggs": {"total": {"sum": {"field": HASH}}}}},
        }
        rows: list[tuple[int, int, int]] = []
        while True:
            page = self._call("POST", f"/{index}/_search", body)["aggregations"]["sums"]
            rows += [
                (b["key"]["bucket"], b["doc_count"], int(b["total"]["value"]))
                for b in page["buckets"]
            ]
            if "after_key" not in page or len(page["buckets"]) < BUCKETS_PER_PAGE:
                return pl.DataFrame(
                    rows,
                    schema={"bucket": pl.Int64, "count": pl.Int64, "total": pl.Int64},
                    orient="row",
                )
            composite["after"] = page["after_key"]

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents in the given buckets: id (String), hash (Int64)."""
        rows = [
            (hit["_id"], hit["fields"][HASH][0])
            for start in range(0, len(buckets), BUCKETS_PER_FETCH)
            for hit in self._scan(index, list(buckets[start : start + BUCKETS_PER_FETCH]))
        ]
        return pl.DataFrame(rows, schema={"id": pl.String, "hash": pl.Int64}, orient="row")

    def _scan(self, index: str, buckets: list[int]) -> Iterator[dict[str, Any]]:
        body: dict[str, Any] = {
            "size": HITS_PER_PAGE,
            "query": {"terms": {BUCKET: buckets}},
            "_source": False,
            "docvalue_fields": [HASH],
            "sort": [{SORT: "asc"}],
        }
        while True:
            hits = self._call("POST", f"/{index}/_search", body)["hits"]["hits"]
            yield from hits
            if len(hits) < HITS_PER_PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    def refresh(self, index: str) -> int:
        """Make everything that was written visible; return the number of documents."""
        self._call("POST", f"/{index}/_refresh", None)
        return self._count(index)

    def publish(self, spec: IndexSpec, index: str) -> None:
        """Switch the alias to the index in one request; keep the previous one, drop older ones."""
        live = self.live(spec)
        if live is not None and live.name == index:
            return
        self._call(
            "PUT",
            f"/{index}/_settings",
            {"index": {"number_of_replicas": self._replicas, "refresh_interval": None}},
        )
        actions: list[dict[str, Any]] = []
        if live is not None and live.name == spec.alias:
            # The Java service left a concrete index under the alias's name.
            actions.append({"remove_index": {"index": spec.alias}})
        elif live is not None:
            actions.append({"remove": {"index": live.name, "alias": spec.alias}})
        actions.append({"add": {"index": index, "alias": spec.alias}})
        self._call("POST", "/_aliases", {"actions": actions})
        previous = None if live is None else live.name
        for name, description in self._call("GET", f"/{spec.alias}-*", None).items():
            if _meta(description).get("alias") == spec.alias and name not in {index, previous}:
                self.drop(name)

    def drop(self, index: str) -> None:
        """Drop an index that readers do not see."""
        response = self._transport.request("DELETE", f"/{index}", None, JSON)
        if response.status != HTTPStatus.NOT_FOUND:
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
        if response.status == HTTPStatus.NOT_FOUND:
            raise SchemaError(NO_INDEX.format(alias=spec.alias))
        hits = self._answer(response)["hits"]
        return Hits(hits["total"]["value"], [hit["_source"] for hit in hits["hits"]])

    def _count(self, index: str) -> int:
        return int(self._call("GET", f"/{index}/_count", None)["count"])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._answer(self._transport.request(method, path, body, JSON))

    def _answer(self, response: Response) -> Any:
        self._raise_unless_reached(response)
        if response.status >= FIRST_ERROR_STATUS:
            raise TisSyncError(f"{self._server} refuses a request: {response.reason}.")
        return response.data

    def _raise_unless_reached(self, response: Response) -> None:
        if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise UnreachableError(
                f"{self._server} refuses the user or password; check TIS_SYNC_SEARCH_URL."
            )
        if response.status == CONNECTION_FAILED or response.status in UNREACHABLE_STATUSES:
            raise UnreachableError(
                f"{self._server} does not answer ({response.reason}); check that it is running, "
                "and check TIS_SYNC_SEARCH_URL. The existing index stays as it is."
            )


def _write_alias(index: str) -> str:
    return f"{index}-write"


def _meta(description: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = description.get("mappings", {}).get("_meta", {}).get(SYNC, {})
    return meta


def _condition(criterion: Filter, value: str) -> dict[str, Any]:
    field, typed = criterion.field_for(value)
    condition: dict[str, Any] = {"term": {field: typed}}
    if criterion.nested is None:
        return condition
    return {"nested": {"path": criterion.nested, "query": condition}}
