"""While the Java service is in use, a job takes the lock row, and does not run if it is held."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.catalogue import JOBS
from tis_sync.settings.model import Settings
from tis_sync.tcs import shedlock
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
LOCK = "personOwnerRebuildScheduledTask"


def test_a_job_that_the_java_service_runs_is_not_run_here(tcs: World, tmp_path: Path) -> None:
    demo.generate(tcs.database, demo.Size(50), TODAY, legacy_tables)
    settings = Settings(home=tmp_path, tcs_url=tcs.url, java_shedlock=True)
    shedlock.take(tcs.database, LOCK, "java-host", NOW, timedelta(hours=2))
    with working(settings) as services:
        (run,) = run_job(services, "PersonOwnerRebuildJob", follow_ups=False)
        assert run.state == "failed"
        assert "Already running" in (run.error or "")
        assert "java-host" in (run.error or "")
        assert services.alarms.open_alarms() == []  # the Java service does the work
        shedlock.release(tcs.database, LOCK, "java-host", NOW)
        (run,) = run_job(services, "PersonOwnerRebuildJob", follow_ups=False)
        assert run.state == "succeeded"
    ((name, holder),) = tcs.rows(t.Shedlock, "name", "locked_by")
    assert (name, holder.startswith("tis-sync ")) == (LOCK, True)
    assert shedlock.take(tcs.database, LOCK, "java-host", NOW + timedelta(minutes=1),
                         timedelta(hours=1)) is None  # fmt: skip


def test_all_jobs_of_a_first_night_take_their_locks_at_once(mariadb_tcs: World) -> None:
    begin = threading.Barrier(len(JOBS))

    def take(name: str) -> object:
        begin.wait()
        return shedlock.take(mariadb_tcs.database, name, "tis-sync", NOW, timedelta(hours=1))

    with ThreadPoolExecutor(len(JOBS)) as threads:
        for number in range(5):
            names = [f"{job.lock_name}-{number}" for job in JOBS]
            assert list(threads.map(take, names)) == [None] * len(JOBS)


def test_of_several_jobs_that_want_a_new_lock_one_gets_it(mariadb_tcs: World) -> None:
    owners = [f"tis-sync {number}" for number in range(8)]
    begin = threading.Barrier(len(owners))

    def take(owner: str) -> object:
        begin.wait()
        return shedlock.take(mariadb_tcs.database, LOCK, owner, NOW, timedelta(hours=1))

    with ThreadPoolExecutor(len(owners)) as threads:
        results = list(threads.map(take, owners))
    assert results.count(None) == 1
    ((holder,),) = mariadb_tcs.rows(t.Shedlock, "locked_by")
    assert owners[results.index(None)] == holder
    assert {result[0] for result in results if isinstance(result, tuple)} == {holder}
