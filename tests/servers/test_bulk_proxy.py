"""With a faulty proxy in front of a real Elasticsearch, no incomplete index is published."""

from pathlib import Path

import pytest

from tests.conftest import drop_indexes
from tests.proxy import Choose, proxy, sometimes
from tests.servers.documents import FORM, SPEC, build, people
from tis_sync.errors import DeliveryError
from tis_sync.reconcile.index_plan import difference
from tis_sync.search.bulk import BulkWriter
from tis_sync.search.concurrency import ConcurrencyLimiter
from tis_sync.search.documents import encode
from tis_sync.search.elastic import ElasticTransport, unsupported
from tis_sync.search.model import Query
from tis_sync.search.rest import RestEngine
from tis_sync.tcs.key_ranges import ALL_KEYS

pytestmark = pytest.mark.servers
PEOPLE = 400


class Waits:
    """A clock that sleeping advances without waiting."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def engine_at(
    address: str, waits: Waits, chunk_bytes: int = 20_000
) -> tuple[RestEngine, BulkWriter]:
    writer = BulkWriter(ConcurrencyLimiter(4, 10.0), chunk_bytes, 600.0, waits.clock, waits.sleep)
    transport = ElasticTransport(address, address, 10.0, 4)
    return RestEngine(transport, writer, unsupported, 1, 0), writer


@pytest.mark.parametrize(
    "choose",
    [
        sometimes("429"),
        sometimes("503"),
        sometimes("items"),
        sometimes("cut"),
        sometimes("cut-after"),
        sometimes("slow", share=0.2),
        sometimes("429", "503", "items", "cut", "cut-after", share=0.7),
    ],
    ids=["429", "503", "429 for items", "cut before", "cut after", "slow", "everything"],
)
def test_transient_failures_are_retried_until_the_index_is_complete(
    elasticsearch: str, choose: Choose
) -> None:
    drop_indexes(elasticsearch)
    waits = Waits()
    with proxy(elasticsearch, choose) as (address, seen):
        engine, _ = engine_at(address, waits)
        index = build(engine, people(PEOPLE), "one")
        assert engine.refresh(index) == PEOPLE
        assert difference(engine, index, people(PEOPLE), FORM, ALL_KEYS).is_empty
        troubles = sum(n for fault, n in seen.faults.items() if fault not in {"none", "other"})
    assert troubles > 0
    if "slow" not in seen.faults:
        assert waits.slept


def test_refusals_lower_the_limit_and_lengthen_the_waits(elasticsearch: str) -> None:
    drop_indexes(elasticsearch)
    waits = Waits()
    count = iter(range(1000))
    with proxy(elasticsearch, lambda _: "429" if next(count) < 12 else "none") as (address, _seen):
        engine, writer = engine_at(address, waits)
        writer.limiter.refused()
        build(engine, people(PEOPLE), "one")
    assert max(waits.slept) > 4 * min(waits.slept)


def test_a_chunk_that_is_too_large_is_halved_and_its_size_is_remembered(elasticsearch: str) -> None:
    drop_indexes(elasticsearch)
    limit = 30_000
    with proxy(elasticsearch, lambda body: "413" if len(body) > limit else "none") as (
        address,
        seen,
    ):
        engine, writer = engine_at(address, Waits(), chunk_bytes=200_000)
        index = build(engine, people(PEOPLE), "one")
        assert engine.refresh(index) == PEOPLE
        assert seen.faults["413"] > 0
        assert seen.largest <= limit
        assert writer.chunk_bytes <= 100_000
        before = seen.faults["413"]
        build(engine, people(PEOPLE), "two")
        assert seen.faults["413"] - before < before


@pytest.mark.parametrize("fault", ["429", "503", "cut", "items-forever"])
def test_an_undeliverable_chunk_fails_the_build_and_the_old_index_stays(
    elasticsearch: str, fault: str
) -> None:
    drop_indexes(elasticsearch)
    engine, _ = engine_at(elasticsearch, Waits())
    build(engine, people(7), "old")
    waits = Waits()
    with proxy(elasticsearch, lambda _: "429" if fault == "items-forever" else fault) as (
        address,
        _s,
    ):
        troubled, _ = engine_at(address, waits)
        with pytest.raises(DeliveryError, match=r"kept refusing .* the old index is still in use"):
            build(troubled, people(PEOPLE), "new")
    assert sum(waits.slept) > 600
    assert engine.query(SPEC, Query("")).total == 7


def test_no_chunk_is_larger_than_the_limit(elasticsearch: str) -> None:
    drop_indexes(elasticsearch)
    with proxy(elasticsearch, lambda _: "none") as (address, seen):
        engine, _ = engine_at(address, Waits(), chunk_bytes=50_000)
        build(engine, people(2000), "one")
        assert 25_000 < seen.largest <= 50_000
        assert 1 < seen.most_in_flight <= 4


def test_a_document_that_is_too_large_costs_only_that_document(
    elasticsearch: str, tmp_path: Path
) -> None:
    drop_indexes(elasticsearch)
    with proxy(elasticsearch, lambda body: "413" if b'"personId":3,' in body else "none") as (
        address,
        _seen,
    ):
        engine, _ = engine_at(address, Waits())
        index = engine.begin(SPEC, "one")
        delivery = engine.write(index, [encode(people(20), FORM)])
        assert [identity for identity, _ in delivery.refused] == ["3"]
        assert engine.refresh(index) == 19
