"""Publishing leaves one index behind the alias, and readers of the previous one read to its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl
from tests.running import run_job, working
from tests.search_server import behind, send
from tests.servers.documents import SPEC, build, people
from tests.world import World
from tis_sync.app import examine
from tis_sync.demo import generate as demo
from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services
from tis_sync.search.connect import connect
from tis_sync.search.model import IndexSpec
from tis_sync.search.rest import RestEngine
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"


@pytest.fixture(params=["elasticsearch", "opensearch"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(request: pytest.FixtureRequest, kind: str) -> str:
    return str(request.getfixturevalue(kind))


@pytest.fixture
def settings(kind: str, search_url: SearchUrl, embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(60), TODAY)
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, search_url=search_url(kind))


def alias_is_also(address: str, index: str) -> None:
    add = {"add": {"index": index, "alias": "persons"}}
    send(address, "POST", "/_aliases", {"actions": [add]})


def aliases(address: str) -> set[str]:
    """The aliases that our indexes of persons have."""
    found = send(address, "GET", "/persons-*/_alias")
    return {alias for index in found.values() for alias in index["aliases"]}


def message(services: Services) -> str:
    (persons,) = [f for f in examine(services, {"search"}) if f.name == "index persons"]
    return f"{persons.state}: {persons.message}"


def test_one_publication_leaves_one_index_behind_the_alias(
    settings: Settings, address: str
) -> None:
    engine = connect(settings)
    one, two = build(engine, people(9), "one"), build(engine, people(3), "two")
    alias_is_also(address, one)
    live = engine.live(SPEC)
    assert live is not None
    assert (live.name, live.documents, live.names) == (one, 9, (one, two))
    assert not live.fits(SPEC)
    engine.publish(SPEC, two)
    assert behind(address, "persons") == [two]
    alias_is_also(address, one)
    three = build(engine, people(4), "three")
    assert behind(address, "persons") == [three]
    assert engine.exists(SPEC, one)
    assert engine.exists(SPEC, two)


def test_an_index_is_either_published_or_dropped(settings: Settings, address: str) -> None:
    engine = connect(settings)
    one, two = build(engine, people(9), "one"), engine.begin(SPEC, "two")
    engine.drop(SPEC, one)
    assert behind(address, "persons") == [one]
    engine.drop(SPEC, two)
    assert not engine.exists(SPEC, two)
    assert aliases(address) == {"persons", f"{one}-claim", f"{one}-write"}
    with pytest.raises(TisSyncError):
        engine.publish(SPEC, two)
    assert behind(address, "persons") == [one]


def test_an_index_that_is_published_while_it_is_about_to_be_dropped_stays(
    settings: Settings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, publisher = connect(settings), connect(settings)
    assert isinstance(engine, RestEngine)
    one, two = build(engine, people(9), "one"), engine.begin(SPEC, "two")
    look = engine._behind

    def published_after_the_look(spec: IndexSpec) -> dict[str, Any]:
        found = look(spec)
        monkeypatch.undo()
        publisher.publish(SPEC, two)
        return found

    monkeypatch.setattr(engine, "_behind", published_after_the_look)
    engine.drop(SPEC, two)
    assert behind(address, "persons") == [two]
    assert engine.exists(SPEC, one)


def test_an_index_that_is_about_to_be_dropped_cannot_be_published(
    settings: Settings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, publisher = connect(settings), connect(settings)
    assert isinstance(engine, RestEngine)
    one, two = build(engine, people(9), "one"), engine.begin(SPEC, "two")
    delete = engine._delete

    def publication_before_the_end(index: str) -> None:
        with pytest.raises(TisSyncError):
            publisher.publish(SPEC, two)
        delete(index)

    monkeypatch.setattr(engine, "_delete", publication_before_the_end)
    engine.drop(SPEC, two)
    assert behind(address, "persons") == [one]
    assert not engine.exists(SPEC, two)


def test_a_run_repairs_an_alias_over_two_indexes(
    settings: Settings, address: str, embedded_tcs: World
) -> None:
    with working(settings) as services:
        (first,) = run_job(services, JOB)
        run_job(services, JOB, rebuild=True)
        for name in send(address, "GET", "/persons-*"):
            alias_is_also(address, name)
        assert len(behind(address, "persons")) == 2
        assert message(services).startswith("drifted: the alias stands for 2 indexes: persons-")
        embedded_tcs.execute(sa.update(t.ContactDetails).values(surname="Renamed"))
        (run,) = run_job(services, JOB)
        assert (run.state, run.size) == ("succeeded", first.size)
        assert len(behind(address, "persons")) == 1
        assert message(services) == f"ok: {run.size} documents"


def test_an_index_under_the_name_of_the_alias_is_named_and_replaced(
    settings: Settings, address: str
) -> None:
    for _ in range(3):
        send(address, "POST", "/persons/_doc?refresh=true", {"personId": 1})
    with working(settings) as services:
        assert message(services).startswith("drifted: an index, not an alias, has this name")
        runs = run_job(services, JOB)
        assert [run.state for run in runs] == ["succeeded"] * 2
        (index,) = behind(address, "persons")
        assert index != "persons"
        assert message(services) == f"ok: {runs[0].size} documents"


def test_a_blocked_index_is_named(settings: Settings, address: str) -> None:
    with working(settings) as services:
        run_job(services, JOB)
        (index,) = behind(address, "persons")
        send(address, "PUT", f"/{index}/_settings", {"index.blocks.write": True})
        assert message(services) == f"drifted: the server refuses changes of {index}: write"


def test_a_publication_that_stopped_half_way_is_completed(settings: Settings, address: str) -> None:
    engine = connect(settings)
    one = build(engine, people(9), "one")
    two = engine.begin(SPEC, "two")
    # The settings were changed, then an index of somebody else was in the way of the alias.
    done = {"index": {"number_of_replicas": 0, "refresh_interval": None}}
    send(address, "PUT", f"/{two}/_settings", done)
    alias_is_also(address, two)
    engine.publish(SPEC, two)
    assert behind(address, "persons") == [two]
    engine.publish(SPEC, two)
    assert engine.exists(SPEC, one)


def test_an_old_index_that_cannot_be_dropped_is_dropped_by_the_next_publication(
    settings: Settings, address: str
) -> None:
    engine = connect(settings)
    one = build(engine, people(9), "one")
    build(engine, people(9), "two")
    send(address, "PUT", f"/{one}/_settings", {"index.blocks.read_only": True})
    three = build(engine, people(9), "three")
    assert behind(address, "persons") == [three]
    assert engine.exists(SPEC, one)
    send(address, "PUT", f"/{one}/_settings", {"index.blocks.read_only": None})
    build(engine, people(9), "four")
    assert not engine.exists(SPEC, one)


def test_an_index_of_which_a_part_is_missing_is_not_taken_for_a_smaller_one(
    settings: Settings, address: str
) -> None:
    # On a single node, the second shard stays unassigned.
    shards = {"number_of_shards": 2, "routing.allocation.total_shards_per_node": 1}
    body = {"settings": {"index": {**shards, "number_of_replicas": 0}}}
    send(address, "PUT", "/persons-half?wait_for_active_shards=0&timeout=1s", body)
    send(address, "GET", "/_cluster/health/persons-half?wait_for_events=languid&timeout=5s")
    engine = connect(settings)
    reads: list[Callable[[], object]] = [
        lambda: engine.sums("persons-half", None, None),
        lambda: engine.hashes("persons-half", [0]),
        lambda: engine.foreign("persons-half"),
    ]
    for read in reads:
        with pytest.raises(TisSyncError) as error:
            read()
        assert error.value.transient


def read_to_the_end(address: str, path: str, body: dict[str, Any], page: dict[str, Any]) -> int:
    """The number of documents on the pages of a scroll, from a first page on."""
    read = 0
    while hits := page["hits"]["hits"]:
        read += len(hits)
        page = send(address, "POST", path, body)
    return read


def test_readers_with_open_scrolls_and_points_in_time_read_to_the_end(
    settings: Settings, address: str, kind: str
) -> None:
    engine = connect(settings)
    build(engine, people(90), "one")
    page = send(address, "POST", "/persons/_search?scroll=1m", {"size": 20, "sort": ["_doc"]})
    if kind == "elasticsearch":
        point = send(address, "POST", "/persons/_pit?keep_alive=1m")["id"]
    else:
        opened = "/persons/_search/point_in_time?keep_alive=1m"
        point = send(address, "POST", opened)["pit_id"]
    build(engine, people(5), "two")
    scroll = {"scroll": "1m", "scroll_id": page["_scroll_id"]}
    assert read_to_the_end(address, "/_search/scroll", scroll, page) == 90
    seen = send(address, "POST", "/_search", {"size": 100, "pit": {"id": point}})
    assert len(seen["hits"]["hits"]) == 90
    assert send(address, "POST", "/persons/_search", {"size": 100})["hits"]["total"]["value"] == 5
    send(address, "DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})
