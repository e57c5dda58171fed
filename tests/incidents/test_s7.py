"""S7, 2021-02-08: search jobs did not start, because the cluster had lost its quorum."""

import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.conftest import TODAY, SearchUrl
from tests.proxy import proxy
from tests.running import run_job, wait_for, working
from tests.world import World
from tis_sync.alarms.catalogue import FAILED
from tis_sync.demo import generate as demo
from tis_sync.execution import workflow
from tis_sync.execution.workflow import start_runs
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"


def test_the_old_index_stays_the_error_is_clear_and_the_run_is_retried_automatically(
    embedded_tcs: World,
    elasticsearch: str,
    search_url: SearchUrl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflow, "RETRY_SECONDS", (0.5, 0.5, 0.5, 0.5))
    demo.generate(embedded_tcs.database, demo.Size(150), TODAY)
    search_url("elasticsearch")
    count = 0

    def quorum_lost(_: bytes) -> str:
        nonlocal count
        count += 1
        return "503" if count <= 3 else "none"

    with proxy(elasticsearch, lambda _: "none") as (address, _):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}",
            bulk_retry_timeout_seconds=0.01,
        )  # fmt: skip
        with working(settings) as services:
            (first,) = run_job(services, JOB)
            assert first.state == "succeeded"
    with proxy(elasticsearch, quorum_lost) as (address, _):
        troubled = settings.model_copy(update={"search_url": SecretStr(f"elasticsearch+{address}")})
        with working(troubled) as services:
            run = request_run(
                services,
                PERSON_INDEX,
                trigger=Trigger.SCHEDULE,
                requested_by="t",
                options=RunOptions(rebuild=True),
            )
            start_runs(services, [run.id])
            while not services.alarms.open_alarms():
                time.sleep(0.02)
            (alarm,) = services.alarms.open_alarms()
            assert (alarm.kind, alarm.subject) == (FAILED, JOB)
            assert "HTTP 503" in alarm.text
            assert "is retried automatically" in alarm.text
            assert services.search().query(PERSONS, Query("")).total == first.added
            (ended,) = wait_for(services, run.id)
            assert ended.state == "succeeded"
            assert "waiting" in [name for name, _ in services.history.phases(run.id)]
            assert services.alarms.open_alarms() == []
            assert services.search().query(PERSONS, Query("")).total == first.added


def test_a_run_that_a_person_waits_for_fails_at_once(embedded_tcs: World, tmp_path: Path) -> None:
    demo.generate(embedded_tcs.database, demo.Size(20), TODAY)
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, search_url="elasticsearch+http://127.0.0.1:9"
    )
    with working(settings) as services:
        (run,) = run_job(services, JOB)
    assert run.state == "failed"
    assert "does not answer" in (run.error or "")
