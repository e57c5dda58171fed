"""Several workers on PostgreSQL: real processes, one of them killed."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import AHEAD_SECONDS, TODAY, SearchUrl
from tests.waiting import eventually
from tests.worker_processes import WorkerProcesses, environment
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT, Run, RunOptions, Trigger
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.state import tables as state

pytestmark = pytest.mark.servers


@pytest.fixture
def services(
    mariadb_tcs: World, postgresql: str, search_url: SearchUrl, tmp_path: Path
) -> Iterator[Services]:
    demo.generate(mariadb_tcs.database, demo.Size(3000), TODAY, legacy_tables)
    services = Services(
        Settings(
            home=tmp_path / "home",
            tcs_url=mariadb_tcs.url,
            state_url=postgresql,
            search_url=search_url("elasticsearch"),
            clock_offset_seconds=AHEAD_SECONDS,
        )
    )
    assert services.history.recent() == []
    yield services
    services.close()


def variables(services: Services, **settings: str) -> dict[str, str]:
    """The environment of the processes."""
    usual = {"heartbeat_seconds": "1", "worker_timeout_seconds": "5", "partition_keys": "160"}
    return environment(services.settings, **(usual | settings))


def in_flight(services: Services, worker_id: str) -> int:
    """How many workflows a worker has begun and not finished, according to DBOS."""
    counted = sa.text(
        "SELECT count(*) FROM dbos.workflow_status WHERE executor_id = :w AND status = 'PENDING'"
    )
    with services.state.read() as connection:
        return int(connection.scalar(counted, {"w": worker_id}) or 0)


def times_fired(services: Services) -> int:
    """How many scheduled times of jobs have been handled, according to DBOS."""
    counted = sa.text(
        "SELECT count(*) FROM dbos.workflow_status "
        "WHERE name = 'tis_sync.run_scheduled' AND status = 'SUCCESS'"
    )
    with services.state.read() as connection:
        return int(connection.scalar(counted) or 0)


def workers(services: Services) -> list[str]:
    with services.state.read() as connection:
        return list(connection.scalars(sa.select(state.worker.c.id)))


def test_a_schedule_fires_once_however_many_workers_there_are(services: Services) -> None:
    # A full minute 40 to 100 s ahead: all three workers live by then.
    at = f"{utc_now() + timedelta(seconds=100):%H:%M}"
    times = "{" + ", ".join(f'"{job.name}": "{at}"' for job in JOBS) + "}"
    with WorkerProcesses(variables(services, night_times=times), 3):
        eventually(lambda: len(services.workers.alive()) == 3, 60)
        eventually(lambda: times_fired(services) == len(JOBS), 180)
        eventually(lambda: not services.history.all_active(), 120)
        time.sleep(3)
    assert times_fired(services) == len(JOBS)
    runs = services.history.recent(100)
    # A job whose follow-up run was under way when its time came is not started once more.
    by_time = Counter(run.job for run in runs if run.trigger == "schedule")
    assert set(by_time.values()) == {1}
    assert {run.job for run in runs} == {job.name for job in JOBS}
    assert {run.state for run in runs} == {"succeeded"}
    assert {run.trigger for run in runs} <= {"schedule", "follow-up"}
    assert workers(services) == []


def test_when_a_worker_is_killed_another_finishes_its_night_within_a_minute(
    services: Services,
) -> None:
    """Use the default heartbeats, and kill both processes that have work of the night."""
    default = Settings.model_fields
    settings = variables(
        services,
        heartbeat_seconds=str(default["heartbeat_seconds"].default),
        worker_timeout_seconds=str(default["worker_timeout_seconds"].default),
    )
    with WorkerProcesses(settings) as processes:
        first = processes.start()
        eventually(lambda: len(services.workers.alive()) == 1, 60)
        (victim,) = services.workers.alive()
        processes.start()
        eventually(lambda: len(services.workers.alive()) == 2, 60)
        night = subprocess.Popen(
            [sys.executable, "-m", "tis_sync", "night"], env=settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        eventually(lambda: in_flight(services, victim), 60)
        night.kill()
        processes.kill(first)
        night.communicate()
        killed = time.monotonic()
        assert services.history.all_active()

        def over() -> bool:
            return not services.history.all_active() and len(services.history.recent(50)) >= 10

        eventually(over, 120)
        seconds = time.monotonic() - killed
    runs = services.history.recent(50)
    assert {run.job for run in runs} == {NIGHT, *(job.name for job in JOBS)}
    assert {run.state for run in runs} == {"succeeded"}, [(r.job, r.error) for r in runs]
    print(f"finished {seconds:.0f} s after the kill")
    assert seconds < 60


def test_partitions_are_shared_among_workers(services: Services) -> None:
    with WorkerProcesses(variables(services), 2):
        eventually(lambda: len(services.workers.alive()) == 2, 60)
        ended = subprocess.run(
            [sys.executable, "-m", "tis_sync", "run", "PersonElasticSearchSyncJob", "--json"],
            env=variables(services), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        with services.state.read() as connection:
            used = connection.exec_driver_sql(
                "SELECT count(DISTINCT executor_id) FROM dbos.workflow_status "
                "WHERE name = 'tis_sync.fill_partition'"
            ).scalar()
    assert used is not None
    assert used >= 2


def test_a_resumed_run_continues_where_it_was_cancelled(services: Services) -> None:
    from tis_sync.execution import workflow
    from tis_sync.jobs.catalogue import job_named
    from tis_sync.runs.request import request_run

    asked = request_run(
        services,
        job_named("PersonElasticSearchSyncJob"),
        trigger=Trigger.MANUAL,
        requested_by="test",
        options=RunOptions(),
    )
    cancelled = workflow.cancel(services, asked.id) if _has_dbos(services) else None
    with WorkerProcesses(variables(services), 1):
        eventually(lambda: len(services.workers.alive()) == 1, 60)
        if cancelled is None:
            eventually(lambda: _state(services, asked) in {"running", "succeeded"}, 60)
            if _state(services, asked) == "running":
                workflow.cancel(services, asked.id)
                assert _state(services, asked) == "cancelled"
                workflow.resume(services, asked.id)
        eventually(lambda: _state(services, asked) == "succeeded", 90)


def _state(services: Services, run: Run) -> str:
    return services.history.get(run.id).state


def _has_dbos(services: Services) -> bool:
    return bool(sa.inspect(services.state.engine).has_schema("dbos"))
