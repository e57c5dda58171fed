"""S1, 2021-02: people appeared twice, because the index job ran on two servers at once."""

import threading
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY, SearchUrl
from tests.running import run_night, wait_for, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.errors import AlreadyRunningError
from tis_sync.execution.workflow import start_runs
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.connect import connect
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers


def test_only_one_of_many_simultaneous_triggers_starts_the_job(
    postgresql: str, tmp_path: Path
) -> None:
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
                request_run(
                    services,
                    job_,
                    trigger=Trigger.MANUAL,
                    requested_by="test",
                    options=RunOptions(),
                )
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


def test_an_index_built_twice_contains_each_person_once(
    embedded_tcs: World, search_url: SearchUrl, tmp_path: Path
) -> None:
    url = search_url("elasticsearch")
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY, legacy_tables)
    search = connect(Settings(home=tmp_path, search_url=url))
    index = embedded_tcs.build(PERSON_INDEX, TODAY, search, "one")
    once = search.query(PERSONS, Query("", limit=1000))
    assert embedded_tcs.build(PERSON_INDEX, TODAY, search, "one") == index
    assert search.query(PERSONS, Query("", limit=1000)) == once


def test_a_second_trigger_learns_that_the_job_is_running(
    embedded_tcs: World, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY, legacy_tables)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as services:
        first = request_run(
            services, PERSON_INDEX, trigger=Trigger.MANUAL, requested_by="a", options=RunOptions()
        )
        with pytest.raises(AlreadyRunningError, match="Already running: PersonElasticSearch") as no:
            request_run(
                services,
                PERSON_INDEX,
                trigger=Trigger.SCHEDULE,
                requested_by="b",
                options=RunOptions(),
            )
        assert no.value.run_id == first.id
        start_runs(services, [first.id])
        start_runs(services, [first.id])
        assert [run.state for run in wait_for(services, first.id)] == ["succeeded"]
        assert run_night(services)[0].state == "succeeded"
