"""What an index on a search server contains: counts, hashes, versions, and foreign documents.

A foreign document is one that we did not write: it has no bucket. TCS writes such documents,
with random ids, whenever somebody edits a person.

Every search needs all shards: half an answer would look as if documents were missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from tis_sync.search.model import DOCUMENT_SCHEMA, SYNC, VERSION_SCHEMA, Position

BUCKETS_PER_PAGE = 10_000  # of a composite aggregation; the servers' limit is 65,536
BUCKETS_PER_FETCH = 200
HITS_PER_PAGE = 10_000  # the default limit of the servers
IDS_PER_FETCH = 5_000
SCROLL_TIME = "1m"  # how long the server keeps a scroll between two pages
BUCKET, HASH = f"{SYNC}.bucket", f"{SYNC}.hash"
TERMS, SORT = f"{SYNC}.terms", f"{SYNC}.sort"
# The parts of a hit that we read; requesting more would only cost transfer and parsing.
HITS = "filter_path=" + ",".join(
    f"hits.hits.{name}" for name in ("_id", "_seq_no", "_primary_term", "fields", "sort")
)
SEARCH = "_search?allow_partial_search_results=false"
FOREIGN: Mapping[str, Any] = {"bool": {"must_not": [{"exists": {"field": BUCKET}}]}}


class Call(Protocol):
    """Sends a request, and returns the decoded answer or raises an error for people."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any: ...  # noqa: D102


def counts(call: Call, index: str) -> tuple[int, int]:
    """The number of documents in an index, and how many of them are foreign."""
    body = {"size": 0, "track_total_hits": True, "aggs": {"foreign": {"filter": FOREIGN}}}
    answer = call("POST", f"/{index}/{SEARCH}", body)
    return answer["hits"]["total"]["value"], answer["aggregations"]["foreign"]["doc_count"]


def sums(call: Call, index: str, low: int | None, high: int | None) -> pl.DataFrame:
    """The buckets from `low` up to but excluding `high`: bucket, count, total (all Int64).

    If `low` is None and there are foreign documents, their bucket is null.
    """
    composite: dict[str, Any] = {
        "size": BUCKETS_PER_PAGE,
        "sources": [{"bucket": {"terms": {"field": BUCKET, "missing_bucket": low is None}}}],
    }
    body = {
        "size": 0,
        "query": _between(low, high),
        "aggs": {"sums": {"composite": composite, "aggs": {"total": {"sum": {"field": HASH}}}}},
    }
    rows: list[tuple[int | None, int, int]] = []
    while True:
        page = call("POST", f"/{index}/{SEARCH}", body)["aggregations"]["sums"]
        rows += [
            (b["key"]["bucket"], b["doc_count"], int(b["total"]["value"])) for b in page["buckets"]
        ]
        if "after_key" not in page or len(page["buckets"]) < BUCKETS_PER_PAGE:
            schema = {"bucket": pl.Int64, "count": pl.Int64, "total": pl.Int64}
            return pl.DataFrame(rows, schema=schema, orient="row")
        composite["after"] = page["after_key"]


def _between(low: int | None, high: int | None) -> dict[str, Any]:
    bounds = {k: v for k, v in (("gte", low), ("lt", high)) if v is not None}
    if not bounds:
        return {"match_all": {}}
    inside = {"range": {BUCKET: bounds}}
    return inside if low is not None else {"bool": {"should": [inside, FOREIGN]}}


def hashes(call: Call, index: str, buckets: Sequence[int]) -> pl.DataFrame:
    """The documents in the given buckets, with the columns of `DOCUMENT_SCHEMA`."""
    rows = [
        (hit["sort"][0], hit.get("fields", {}).get(HASH, (None,))[0], *_version(hit))
        for start in range(0, len(buckets), BUCKETS_PER_FETCH)
        for hit in _in_buckets(call, index, list(buckets[start : start + BUCKETS_PER_FETCH]))
    ]
    return pl.DataFrame(rows, schema=DOCUMENT_SCHEMA, orient="row")


def _in_buckets(call: Call, index: str, buckets: list[int]) -> Iterator[dict[str, Any]]:
    body: dict[str, Any] = {
        "size": HITS_PER_PAGE,
        "query": {"terms": {BUCKET: buckets}},
        "_source": False,
        "seq_no_primary_term": True,
        "docvalue_fields": [HASH],
        "sort": [BUCKET, SORT],
    }
    while True:
        hits = call("POST", f"/{index}/{SEARCH}&{HITS}", body).get("hits", {}).get("hits", [])
        yield from hits
        if len(hits) < HITS_PER_PAGE:
            return
        body["search_after"] = hits[-1]["sort"]


def versions(call: Call, index: str, ids: Sequence[str]) -> pl.DataFrame:
    """Those of the given documents that exist, whatever is in them (`VERSION_SCHEMA`)."""
    rows: list[tuple[str, int, int]] = []
    for start in range(0, len(ids), IDS_PER_FETCH):
        body = {
            "size": IDS_PER_FETCH,
            "query": {"ids": {"values": list(ids[start : start + IDS_PER_FETCH])}},
            "_source": False,
            "seq_no_primary_term": True,
        }
        hits = call("POST", f"/{index}/{SEARCH}", body)["hits"]["hits"]
        rows += [_version(hit) for hit in hits]
    return pl.DataFrame(rows, schema=VERSION_SCHEMA, orient="row")


def _version(hit: Mapping[str, Any]) -> tuple[str, int, int]:
    return hit["_id"], hit["_seq_no"], hit["_primary_term"]


def foreign(call: Call, index: str, until: Sequence[int] | None = None) -> pl.DataFrame:
    """The documents that we did not write (`VERSION_SCHEMA`).

    Args:
        call: sends requests.
        index: the index.
        until: only those written up to this position: the last sequence number of each shard.

    """
    rows: list[tuple[str, int, int]] = []
    if until is None:
        rows += _scroll(call, f"/{index}/{SEARCH}", FOREIGN)
    for shard, last in enumerate(until or ()):
        query = {"bool": {"filter": [FOREIGN, {"range": {"_seq_no": {"lte": last}}}]}}
        rows += _scroll(call, f"/{index}/{SEARCH}&preference=_shards:{shard}", query)
    return pl.DataFrame(rows, schema=VERSION_SCHEMA, orient="row")


def _scroll(call: Call, path: str, query: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """All documents that match, with their versions; they have no field to page by."""
    body = {
        "size": HITS_PER_PAGE,
        "query": query,
        "_source": False,
        "seq_no_primary_term": True,
        "sort": ["_doc"],
    }
    page = call("POST", f"{path}&scroll={SCROLL_TIME}", body)
    try:
        while hits := page["hits"]["hits"]:
            yield from map(_version, hits)
            if len(hits) < HITS_PER_PAGE:
                return
            again = {"scroll": SCROLL_TIME, "scroll_id": page["_scroll_id"]}
            page = call("POST", "/_search/scroll", again)
    finally:
        call("DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})


def position(call: Call, indexes: Sequence[str]) -> Position:
    """How far the indexes were written; indexes that do not exist are left out."""
    if not indexes:
        return {}
    path = f"/{','.join(indexes)}/_stats/docs?level=shards&ignore_unavailable=true"
    answer = call("GET", f"{path}&filter_path=indices.*.shards.*.seq_no.max_seq_no", None)
    return {
        name: [
            max(copy["seq_no"]["max_seq_no"] for copy in shards[number])
            for number in sorted(shards, key=int)
        ]
        for name, shards in (
            (name, found["shards"]) for name, found in answer.get("indices", {}).items()
        )
    }


def documents(call: Call, index: str, field: str, keys: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The documents, by id, in which a field has one of a few values; foreign ones included."""
    body = {"size": HITS_PER_PAGE, "query": {"terms": {field: list(keys)}}}
    hits = call("POST", f"/{index}/{SEARCH}", body)["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}
