"""S2, 2021-02-12: people were missing, because refused chunks (429) were not retried."""

from pathlib import Path

import pytest

from tests.conftest import TODAY, SearchUrl
from tests.proxy import proxy, sometimes
from tests.running import run_job, working
from tests.world import World
from tis_sync.alarms.catalogue import FAILED
from tis_sync.demo import generate as demo
from tis_sync.jobs.person_index import PERSONS
from tis_sync.search.connect import connect
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"


def test_refused_chunks_are_sent_again_and_nobody_is_missing(
    embedded_tcs: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(300), TODAY)
    search_url("elasticsearch")
    with proxy(elasticsearch, sometimes("429", "items", share=0.4)) as (address, seen):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}",
            chunk_bytes=50_000,
        )  # fmt: skip
        with working(settings) as services:
            (run,) = run_job(services, JOB)
    assert run.state == "succeeded"
    assert seen.faults["429"] + seen.faults["items"] > 0
    search = connect(Settings(home=tmp_path, search_url=f"elasticsearch+{elasticsearch}"))
    assert search.query(PERSONS, Query("")).total == run.considered == run.added


def test_an_incomplete_build_is_never_published_and_opens_an_alarm(
    embedded_tcs: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(100), TODAY)
    settings = {"home": tmp_path, "tcs_url": embedded_tcs.url, "bulk_retry_timeout_seconds": 0.5}
    with working(Settings(**settings, search_url=search_url("elasticsearch"))) as services:  # type: ignore[arg-type]
        (first,) = run_job(services, JOB)
    with proxy(elasticsearch, lambda _: "429") as (address, _):
        troubled = Settings(**settings, search_url=f"elasticsearch+{address}")  # type: ignore[arg-type]
        with working(troubled) as services:
            (run,) = run_job(services, JOB, rebuild=True)
            assert run.state == "failed"
            assert "the old index is still in use" in (run.error or "")
            (alarm,) = services.alarms.open_alarms()
            assert (alarm.kind, alarm.subject) == (FAILED, JOB)
            assert f"tis-sync run {JOB}" in alarm.text
    search = connect(Settings(home=tmp_path, search_url=f"elasticsearch+{elasticsearch}"))
    assert search.query(PERSONS, Query("")).total == first.added
    with working(Settings(**settings, search_url=f"elasticsearch+{elasticsearch}")) as services:  # type: ignore[arg-type]
        assert run_job(services, JOB)[0].state == "succeeded"
        assert services.alarms.open_alarms() == []
