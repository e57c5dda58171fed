"""A search engine over the REST interface that Elasticsearch and OpenSearch share.

Every index of ours says so in its mapping's `_meta`, and has an alias of its own for writing, so
that a chunk can never create an index by accident. The alias that readers use points to one index
at a time and is switched in one request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import SchemaError, TisSyncError, UnreachableError
from tis_sync.search.bulk import MISSING, Courier, Reply
from tis_sync.search.documents import words_of
from tis_sync.search.model import (
    SYNC,
    Delivery,
    Filter,
    Hits,
    IndexSpec,
    LiveIndex,
    Query,
)

BUCKETS_A_PAGE = 10_000  # of a composite aggregation; the servers' limit is 65,536
BUCKETS_A_FETCH = 200
HITS_A_PAGE = 10_000  # the servers' default limit of one answer
JSON = {"content-type": "application/json", "accept": "application/json"}
# No ids: outcomes come in the order in which documents went, and there are millions of them.
BULK_ANSWER = "errors,items.*.status,items.*.error"
BUCKET, HASH = f"{SYNC}.bucket", f"{SYNC}.hash"
TERMS, SORT = f"{SYNC}.terms", f"{SYNC}.sort"


class Transport(Protocol):
    """The official client of a product, reduced to what is needed here."""

    product: str
    address: str

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Reply:
        """Send one request; the status of the reply is 0 when the connection failed."""


class RestEngine:
    """`SearchEngine` for Elasticsearch and OpenSearch.

    Args:
        transport: how requests reach the server.
        courier: how documents are delivered.
        supported: given the reply of GET /, why the server is not supported; None: it is.
        shards, replicas: settings of the indexes that we build.

    """

    def __init__(
        self,
        transport: Transport,
        courier: Courier,
        supported: Callable[[Mapping[str, Any]], str | None],
        shards: int,
        replicas: int,
    ) -> None:
        self._transport = transport
        self._courier = courier
        self._supported = supported
        self._shards = shards
        self._replicas = replicas

    def check(self) -> None:
        """Raise unless the server answers and is of a version that we support."""
        reply = self._transport.request("GET", "/", None, JSON)
        self._reached(reply)
        problem = self._supported(reply.data)
        if problem:
            raise SchemaError(
                f"{self._transport.product} at {self._transport.address}: {problem}; "
                "check TIS_SYNC_SEARCH_URL."
            )

    def live(self, spec: IndexSpec) -> LiveIndex | None:
        """What the alias points to; None: nothing."""
        reply = self._transport.request("GET", f"/{spec.alias}", None, JSON)
        if reply.status == MISSING:
            return None
        indexes = self._answer(reply)
        name = max(indexes)
        meta = _meta(indexes[name])
        return LiveIndex(
            name,
            ours=bool(meta),
            version=meta.get("version"),
            documents=self._count(spec.alias),
        )

    def exists(self, spec: IndexSpec, index: str) -> bool:  # noqa: ARG002
        """Whether an index of that name is there."""
        reply = self._transport.request("GET", f"/{index}", None, JSON)
        if reply.status == MISSING:
            return False
        self._answer(reply)
        return True

    def begin(self, spec: IndexSpec, build: str) -> str:
        """Create (or find again) the index of a build; return its name. Nobody reads it yet."""
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
        """Put documents (id, body) into an index, then delete ids from it.

        Raises:
            DeliveryError: the server kept refusing.

        """
        path = f"/{_write_alias(index)}/_bulk?require_alias=true&filter_path={BULK_ANSWER}"
        return self._courier.deliver(
            lambda body: self._transport.request("POST", path, body, JSON), documents, deletes
        )

    def sums(self, index: str, low: int | None, high: int | None) -> pl.DataFrame:
        """Buckets of an index, from `low` to before `high`: bucket, count, total (Int64)."""
        bounds = {k: v for k, v in (("gte", low), ("lt", high)) if v is not None}
        composite: dict[str, Any] = {
            "size": BUCKETS_A_PAGE,
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
            if "after_key" not in page or len(page["buckets"]) < BUCKETS_A_PAGE:
                return pl.DataFrame(
                    rows,
                    schema={"bucket": pl.Int64, "count": pl.Int64, "total": pl.Int64},
                    orient="row",
                )
            composite["after"] = page["after_key"]

    def hashes(self, index: str, buckets: Sequence[int]) -> pl.DataFrame:
        """The documents of some buckets: id (String), hash (Int64)."""
        rows = [
            (hit["_id"], hit["fields"][HASH][0])
            for start in range(0, len(buckets), BUCKETS_A_FETCH)
            for hit in self._scan(index, list(buckets[start : start + BUCKETS_A_FETCH]))
        ]
        return pl.DataFrame(rows, schema={"id": pl.String, "hash": pl.Int64}, orient="row")

    def _scan(self, index: str, buckets: list[int]) -> Iterator[dict[str, Any]]:
        body: dict[str, Any] = {
            "size": HITS_A_PAGE,
            "query": {"terms": {BUCKET: buckets}},
            "_source": False,
            "docvalue_fields": [HASH],
            "sort": [{SORT: "asc"}],
        }
        while True:
            hits = self._call("POST", f"/{index}/_search", body)["hits"]["hits"]
            yield from hits
            if len(hits) < HITS_A_PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    def refresh(self, index: str) -> int:
        """Make all that was written visible; return how many documents the index holds."""
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
        for name, described in self._call("GET", f"/{spec.alias}-*", None).items():
            if _meta(described).get("alias") == spec.alias and name not in {index, previous}:
                self.abandon(name)

    def abandon(self, index: str) -> None:
        """Drop an index that nobody reads."""
        reply = self._transport.request("DELETE", f"/{index}", None, JSON)
        if reply.status != MISSING:
            self._answer(reply)

    def query(self, spec: IndexSpec, query: Query) -> Hits:
        """Answer a query: every word begins some word of the document, and every filter holds."""
        conditions: list[dict[str, Any]] = [
            {"prefix": {TERMS: {"value": word}}} for word in words_of(query.text)
        ]
        conditions += [_condition(spec.filter_named(name), value) for name, value in query.where]
        reply = self._transport.request(
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
        if reply.status == MISSING:
            raise SchemaError(f"There is no index {spec.alias} yet; run `tis-sync night` first.")
        hits = self._answer(reply)["hits"]
        return Hits(hits["total"]["value"], [hit["_source"] for hit in hits["hits"]])

    def _count(self, index: str) -> int:
        return int(self._call("GET", f"/{index}/_count", None)["count"])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._answer(self._transport.request(method, path, body, JSON))

    def _answer(self, reply: Reply) -> Any:
        self._reached(reply)
        if reply.status >= 400:
            raise TisSyncError(
                f"{self._transport.product} at {self._transport.address} refuses: {reply.reason}."
            )
        return reply.data

    def _reached(self, reply: Reply) -> None:
        where = f"{self._transport.product} at {self._transport.address}"
        if reply.status in {401, 403}:
            raise UnreachableError(
                f"{where} refuses the user or password; check TIS_SYNC_SEARCH_URL."
            )
        if reply.status == 0 or reply.status in {502, 503, 504}:
            raise UnreachableError(
                f"{where} does not answer ({reply.reason}); check that it runs, and "
                "TIS_SYNC_SEARCH_URL. The index that was there stays as it is."
            )


def _write_alias(index: str) -> str:
    return f"{index}-write"


def _meta(described: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = described.get("mappings", {}).get("_meta", {}).get(SYNC, {})
    return meta


def _condition(chosen: Filter, value: str) -> dict[str, Any]:
    field, typed = chosen.field_for(value)
    condition: dict[str, Any] = {"term": {field: typed}}
    if chosen.nested is None:
        return condition
    return {"nested": {"path": chosen.nested, "query": condition}}
