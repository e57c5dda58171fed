"""A change in place never overwrites what somebody else has written since the plan."""

from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl, drop_indexes
from tests.proxy import proxy
from tests.running import run_job, working
from tests.search_server import behind, send
from tests.servers.documents import FORM, build, people, person, views
from tests.servers.test_bulk_proxy import Waits, engine_at
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.errors import PlanOutdatedError
from tis_sync.jobs.person_index import PERSONS
from tis_sync.reconcile.index_plan import IndexPlan, difference
from tis_sync.search.connect import connect
from tis_sync.search.model import Query, SearchEngine
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import ALL_KEYS

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"


def renamed(surname: str) -> pl.DataFrame:
    """Everybody with a surname, without number 3 and with number 99."""
    return views([person(n, surname=surname) for n in (1, 2, 4, 5, 99)])


def apply(engine: SearchEngine, index: str, plan: IndexPlan) -> None:
    engine.write(index, [plan.added, plan.changed], plan.removed)
    engine.refresh(index)


@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_a_worker_that_comes_back_does_not_overwrite_newer_documents(
    search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    engine = connect(Settings(home=tmp_path, search_url=search_url(kind)))
    index = build(engine, people(5), "one")
    old = difference(engine, index, renamed("Old"), FORM, ALL_KEYS)
    assert (old.added.height, old.changed.height, old.removed.height) == (1, 4, 1)
    apply(engine, index, difference(engine, index, renamed("New"), FORM, ALL_KEYS))
    with pytest.raises(PlanOutdatedError, match="6 documents of the index changed after the plan"):
        apply(engine, index, old)
    assert engine.query(PERSONS, Query("new")).total == 5
    assert engine.query(PERSONS, Query("old")).total == 0


def test_a_chunk_that_was_written_although_the_answer_was_lost_is_settled_by_the_next_plan(
    elasticsearch: str,
) -> None:
    drop_indexes(elasticsearch)
    faults = iter(["none", "cut-after"])
    with proxy(elasticsearch, lambda _: next(faults, "none")) as (address, _):
        engine, _ = engine_at(address, Waits())
        index = build(engine, people(5), "one")
        plan = difference(engine, index, renamed("New"), FORM, ALL_KEYS)
        with pytest.raises(PlanOutdatedError):
            apply(engine, index, plan)
        engine.refresh(index)
        apply(engine, index, difference(engine, index, renamed("New"), FORM, ALL_KEYS))
        assert difference(engine, index, renamed("New"), FORM, ALL_KEYS).is_empty


def test_a_run_plans_again_when_somebody_changes_the_index_under_it(
    elasticsearch: str, search_url: SearchUrl, embedded_tcs: World, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(60), TODAY)
    search_url("elasticsearch")
    rival: list[str] = []

    def choose(_: bytes) -> str:
        while rival:
            index = rival.pop()
            body = {"script": "ctx._source.surname = 'Rival'", "query": {"match_all": {}}}
            send(elasticsearch, "POST", f"/{index}/_update_by_query", body)
        return "none"

    with proxy(elasticsearch, choose) as (address, _):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}"
        )
        with working(settings) as services:
            run_job(services, JOB)
            changed = sa.update(t.ContactDetails).where(t.ContactDetails.c.id < 9)
            embedded_tcs.execute(changed.values(surname="Right"))
            rival += behind(elasticsearch, "persons")
            (run,) = run_job(services, JOB)
            assert run.state == "succeeded"
            assert run.changed
            assert services.search().query(PERSONS, Query("right")).total == run.changed


def test_replaced_placements_lose_nobody(search: SearchEngine) -> None:
    pairs = [(n, f"{n}-{n}") for n in range(1, 40)]
    index = build(search, views([person(n, documentId=d) for n, d in pairs]), "one")
    changeover = [
        person(n, documentId=f"{n}-{n + 100}", siteId=77) for n, _ in pairs if n not in {7, 8}
    ]
    plan = difference(search, index, views(changeover), FORM, ALL_KEYS)
    assert (plan.added.height, plan.removed.height) == (37, 39)
    assert sorted(plan.lost_keys) == [7, 8]
    assert plan.lost == 2
