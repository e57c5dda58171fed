"""A search server that refuses a whole index fails the run; it recovers when that ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl, drop_indexes
from tests.proxy import proxy
from tests.running import run_job, working
from tests.search_server import behind, send
from tests.servers.documents import FORM, SPEC, build, people
from tests.servers.test_bulk_proxy import Waits, engine_at
from tests.world import World
from tis_sync.alarms.catalogue import FAILED
from tis_sync.demo import generate as demo
from tis_sync.errors import IndexUnavailableError, TisSyncError
from tis_sync.jobs.person_index import PERSONS
from tis_sync.search.connect import connect
from tis_sync.search.documents import encode
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"
RENAMED = 9  # people; few enough that the index is changed in place
BLOCKS = ["write", "read_only_allow_delete", "read_only", "closed"]


def block(address: str, index: str, kind: str) -> None:
    if kind == "closed":
        send(address, "POST", f"/{index}/_close")
    else:
        send(address, "PUT", f"/{index}/_settings", {f"index.blocks.{kind}": True})


def lift(address: str, index: str, kind: str) -> None:
    if kind == "closed":
        send(address, "POST", f"/{index}/_open?wait_for_active_shards=1")
    else:
        send(address, "PUT", f"/{index}/_settings", {f"index.blocks.{kind}": None})


@contextmanager
def blocked(address: str, index: str, kind: str) -> Iterator[None]:
    block(address, index, kind)
    try:
        yield
    finally:
        lift(address, index, kind)


@pytest.fixture(params=["elasticsearch", "opensearch"])
def server(request: pytest.FixtureRequest, search_url: SearchUrl) -> tuple[str, str]:
    """The address of an empty search server, and its `search_url`."""
    return str(request.getfixturevalue(request.param)), search_url(request.param)


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path, server: tuple[str, str]) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(60), TODAY)
    return Settings(
        home=tmp_path,
        tcs_url=embedded_tcs.url,
        search_url=server[1],
        bulk_retry_timeout_seconds=0.01,
    )


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_run_fails_while_the_index_is_blocked_and_succeeds_afterwards(
    settings: Settings, server: tuple[str, str], embedded_tcs: World, kind: str
) -> None:
    address, _ = server
    with working(settings) as services:
        assert run_job(services, JOB)[0].state == "succeeded"
        (index,) = behind(address, "persons")
        change = sa.update(t.ContactDetails).where(t.ContactDetails.c.id <= RENAMED)
        embedded_tcs.execute(change.values(surname="Renamed"))
        with blocked(address, index, kind):
            (run,) = run_job(services, JOB)
            assert run.state == "failed"
            assert "a disk is full, or the index is blocked or closed" in (run.error or "")
            assert not run.set_aside
            (alarm,) = services.alarms.open_alarms()
            assert (alarm.kind, alarm.subject) == (FAILED, JOB)
        (run,) = run_job(services, JOB)
        assert run.state == "succeeded"
        assert services.alarms.open_alarms() == []
        assert services.search().query(PERSONS, Query("renamed")).total == run.changed
        assert run.changed


@pytest.mark.parametrize("kind", ["read_only", "metadata"])
def test_an_old_index_that_is_blocked_fails_the_publication_and_stays(
    settings: Settings, server: tuple[str, str], kind: str
) -> None:
    address, _ = server
    with working(settings) as services:
        assert run_job(services, JOB)[0].state == "succeeded"
        (index,) = behind(address, "persons")
        with blocked(address, index, kind):
            (run,) = run_job(services, JOB, rebuild=True)
            assert run.state == "failed"
            assert "the index is blocked or closed" in (run.error or "")
        assert behind(address, "persons") == [index]
        assert run_job(services, JOB, rebuild=True)[0].state == "succeeded"
        assert behind(address, "persons") != [index]


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_that_is_lifted_while_chunks_are_retried_costs_nothing(
    elasticsearch: str, kind: str
) -> None:
    drop_indexes(elasticsearch)
    waits = Waits()
    engine, writer = engine_at(elasticsearch, waits)
    index = build(engine, people(7), "one")

    def sleep(seconds: float) -> None:
        waits.sleep(seconds)
        lift(elasticsearch, index, kind)

    writer.sleep = sleep
    with blocked(elasticsearch, index, kind):
        delivery = engine.write(index, [encode(people(50), FORM)])
    assert (delivery.written, delivery.refused) == (50, [])
    assert waits.slept
    assert engine.refresh(index) == 50


def test_a_block_is_transient_and_a_missing_right_is_not(elasticsearch: str) -> None:
    drop_indexes(elasticsearch)
    waits = Waits()
    engine, _ = engine_at(elasticsearch, waits)
    index = build(engine, people(7), "one")
    with blocked(elasticsearch, index, "write"), pytest.raises(IndexUnavailableError) as refused:
        engine.write(index, [encode(people(7), FORM)])
    assert refused.value.transient
    assert sum(waits.slept) > 600
    for fault in ("403", "items-403"):
        with proxy(elasticsearch, lambda _, fault=fault: fault) as (address, _seen):  # type: ignore[misc]
            troubled, _ = engine_at(address, waits)
            with pytest.raises(TisSyncError, match="the user lacks a right") as denied:
                troubled.write(index, [encode(people(7), FORM)])
        assert not denied.value.transient


def test_an_index_that_was_dropped_between_plan_and_apply_fails_the_run_and_is_built_again(
    elasticsearch: str, search_url: SearchUrl, embedded_tcs: World, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(60), TODAY)
    search_url("elasticsearch")
    dropping: list[str] = []

    def choose(_: bytes) -> str:
        while dropping:
            send(elasticsearch, "DELETE", f"/{dropping.pop()}")
        return "none"

    with proxy(elasticsearch, choose) as (address, _seen):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}"
        )
        with working(settings) as services:
            (first,) = run_job(services, JOB)
            embedded_tcs.execute(
                sa.update(t.ContactDetails).where(t.ContactDetails.c.id < 9).values(surname="New")
            )
            dropping += behind(elasticsearch, "persons")
            (run,) = run_job(services, JOB)
            assert run.state == "failed"
            assert "the index no longer exists" in (run.error or "")
            (run,) = run_job(services, JOB)
            assert (run.state, run.size) == ("succeeded", first.size)


@pytest.mark.parametrize("step", ["sums", "hashes", "refresh", "foreign", "versions"])
def test_reading_an_index_that_is_gone_is_transient(
    elasticsearch: str, search_url: SearchUrl, tmp_path: Path, step: str
) -> None:
    engine = connect(Settings(home=tmp_path, search_url=search_url("elasticsearch")))
    calls: dict[str, Callable[[], object]] = {
        "sums": lambda: engine.sums("persons-gone", None, None),
        "hashes": lambda: engine.hashes("persons-gone", [1]),
        "refresh": lambda: engine.refresh("persons-gone"),
        "foreign": lambda: engine.foreign("persons-gone"),
        "versions": lambda: engine.versions("persons-gone", ["1"]),
    }
    with pytest.raises(IndexUnavailableError, match="no longer exists"):
        calls[step]()
    assert engine.position(["persons-gone"]) == {}
    assert engine.live(SPEC) is None
