"""Bulk bodies, and what the refusals of a search server mean."""

import json

import polars as pl
import pytest

from tis_sync.search.bulk import VERSION_BYTES, cut, encode
from tis_sync.search.response import Refusal, Response, error_for, refusal_of


def lines(chunk: pl.DataFrame) -> list[object]:
    return [json.loads(line) for line in encode(chunk).decode().splitlines()]


def test_documents_without_versions_are_written_whatever_is_there() -> None:
    chunk = pl.DataFrame({"id": ["1", "2-3"], "body": ['{"a":1}', '{"a":"é"}']})
    assert lines(chunk) == [
        {"index": {"_id": "1"}},
        {"a": 1},
        {"index": {"_id": "2-3"}},
        {"a": "é"},
    ]
    assert lines(chunk.select("id")) == [{"delete": {"_id": "1"}}, {"delete": {"_id": "2-3"}}]


def test_documents_with_versions_replace_only_these_versions() -> None:
    chunk = pl.DataFrame(
        {
            "id": ["1", "2"],
            "body": ["{}", "{}"],
            "seq_no": pl.Series([None, 7], dtype=pl.Int64),
            "primary_term": pl.Series([None, 2], dtype=pl.Int64),
        }
    )
    version = {"_id": "2", "if_seq_no": 7, "if_primary_term": 2}
    assert lines(chunk) == [{"create": {"_id": "1"}}, {}, {"index": version}, {}]
    deletes = chunk.filter(pl.col("id") == "2").drop("body")
    assert lines(deletes) == [{"delete": version}]


def test_the_ids_of_others_are_escaped() -> None:
    ids = ['a"b', "c\\d", "e\nf"]
    assert lines(pl.DataFrame({"id": ids})) == [{"delete": {"_id": name}} for name in ids]


def test_chunks_with_versions_are_not_larger_than_the_limit() -> None:
    large = 2**62
    documents = pl.DataFrame({"id": [str(n) for n in range(50)], "body": ["{}"] * 50}).with_columns(
        seq_no=pl.lit(large), primary_term=pl.lit(large)
    )
    chunks = list(cut(documents, 1000))
    assert sum(chunk.height for chunk in chunks) == 50
    assert 1000 - 2 * VERSION_BYTES < max(len(encode(chunk)) for chunk in chunks) <= 1000


@pytest.mark.parametrize(
    ("status", "kind", "meaning", "is_transient"),
    [
        (0, None, Refusal.OVERLOADED, True),
        (429, "es_rejected_execution_exception", Refusal.OVERLOADED, True),
        (429, "circuit_breaking_exception", Refusal.OVERLOADED, True),
        (503, "cluster_block_exception", Refusal.OVERLOADED, True),
        (520, None, Refusal.OVERLOADED, True),
        (429, "cluster_block_exception", Refusal.BLOCKED, True),
        (403, "cluster_block_exception", Refusal.BLOCKED, True),
        (400, "index_closed_exception", Refusal.BLOCKED, True),
        (403, "security_exception", Refusal.FORBIDDEN, False),
        (401, "security_exception", Refusal.UNKNOWN_USER, True),
        (404, "index_not_found_exception", Refusal.GONE, True),
        (409, "version_conflict_engine_exception", Refusal.CONFLICT, False),
        (400, "document_parsing_exception", Refusal.DOCUMENT, False),
        (299, None, None, False),
    ],
)
def test_a_refusal_is_judged_by_its_status_and_type(
    status: int, kind: str | None, meaning: Refusal | None, is_transient: bool
) -> None:
    assert refusal_of(status, kind) == meaning
    response = Response(status, {"error": {"type": kind, "reason": "because"}} if kind else "?")
    assert response.refusal == meaning
    if meaning is not None:
        assert error_for(response, "The server").transient == is_transient
