"""S1, 2021-02: people twice in the list, as the index job ran on two servers at once."""

import threading
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY, SearchUrl
from tests.running import run_night, wait_for, working
from tests.world import World
from tis_sync.errors import AlreadyRunningError
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.leftovers import left_by_old_service
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.runs.ask import ask
from tis_sync.runs.run import Options
from tis_sync.runs.services import Services
from tis_sync.runs.workflows import start
from tis_sync.search.connect import connect
from tis_sync.search.model import Query
from tis_sync.settings import Settings
from tis_sync.tcs import demo

pytestmark = pytest.mark.servers


def test_of_many_triggers_at_once_one_starts_the_job(postgresql: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, state_url=postgresql)
    replicas = [Services(settings, lambda: NOW) for _ in range(4)]
    for replica in replicas:
        assert replica.history.recent() == []
    for job in JOBS:
        outcomes: list[str] = []
        barrier = threading.Barrier(8)

        def trigger(services: Services, job_=job, outcomes_=outcomes, barrier_=barrier) -> None:  # type: ignore[no-untyped-def]
            barrier_.wait()
            try:
                ask(services, job_, trigger="manual", who="test", options=Options())
                outcomes_.append("started")
            except AlreadyRunningError as error:
                outcomes_.append(str(error).split(":")[0])

        threads = [threading.Thread(target=trigger, args=(replicas[n % 4],)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["Already running"] * 7 + ["started"]
    for replica in replicas:
        replica.close()


def test_an_index_built_twice_over_holds_each_person_once(
    embedded_tcs: World, search_url: SearchUrl, tmp_path: Path
) -> None:
    url = search_url("elasticsearch")
    demo.generate(embedded_tcs.engine, demo.Size(200), TODAY, left_by_old_service)
    search = connect(Settings(home=tmp_path, search_url=url))
    index = embedded_tcs.build(PERSON_INDEX, TODAY, search, "one")
    once = search.query(PERSONS, Query("", limit=1000))
    assert embedded_tcs.build(PERSON_INDEX, TODAY, search, "one") == index
    assert search.query(PERSONS, Query("", limit=1000)) == once


def test_a_second_trigger_is_told_that_it_runs_already(embedded_tcs: World, tmp_path: Path) -> None:
    demo.generate(embedded_tcs.engine, demo.Size(200), TODAY, left_by_old_service)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as services:
        first = ask(services, PERSON_INDEX, trigger="manual", who="a", options=Options())
        with pytest.raises(AlreadyRunningError, match="Already running: PersonElasticSearch") as no:
            ask(services, PERSON_INDEX, trigger="schedule", who="b", options=Options())
        assert no.value.run_id == first.id
        start([first.id])
        start([first.id])
        assert [run.state for run in wait_for(services, first.id)] == ["succeeded"]
        assert run_night(services)[0].state == "succeeded"
