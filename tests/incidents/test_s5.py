"""S5, 2022-01-22: the index was four days old, because silence was taken for health."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import Clock
from tis_sync.alarms.catalogue import NO_WORKER, SLOW
from tis_sync.execution.progress import note_retry
from tis_sync.jobs.base import AsOf
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.end import end_run
from tis_sync.runs.run import Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.workers import cluster
from tis_sync.workers.monitor import check_jobs

NIGHT = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)
INDEX = "PersonElasticSearchSyncJob"


def succeed(services: Services, job: str, now: datetime, seconds: float = 5) -> None:
    """Record that a job ran."""
    run = services.history.request(
        job,
        trigger=Trigger.SCHEDULE,
        requested_by="test",
        as_of=AsOf.on(now.date()),
        options=RunOptions(),
        now=now,
    )
    services.history.begin(run.id, now)
    services.history.end(run.id, RunState.SUCCEEDED, now + timedelta(seconds=seconds))


def begin(services: Services, job: str, **options: Any) -> Run:
    """Begin a run of a job."""
    now = services.clock()
    run = services.history.request(
        job,
        trigger=Trigger.SCHEDULE,
        requested_by="t",
        as_of=AsOf.on(now.date()),
        options=RunOptions(**options),
        now=now,
    )
    return services.history.begin(run.id, now)


def slow_run(tmp_path: Path, clock: Clock) -> tuple[Services, Run]:
    """A run that takes unusually long, after the monitor has noticed it."""
    services = installed(tmp_path, clock)
    for hour in (3, 4, 5):
        succeed(services, INDEX, NIGHT.replace(hour=hour), seconds=60)
    clock.now = NIGHT.replace(hour=9)
    run = begin(services, INDEX)
    clock.forward(minutes=30)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == {("slow", INDEX)}
    return services, run


def installed(tmp_path: Path, clock: Clock) -> Services:
    """An installation in which the night of 1 March succeeded."""
    services = Services(Settings(home=tmp_path, notification_urls=[]), clock)
    clock.now = NIGHT - timedelta(hours=3)
    cluster.register_worker(services, schedules=True)
    for job in JOBS:
        succeed(services, job.name, datetime.combine(NIGHT.date(), job.at, UTC))
    return services


def open_alarms(services: Services) -> set[tuple[str, str]]:
    return {(alarm.kind.name, alarm.subject) for alarm in services.alarms.open_alarms()}


def test_a_job_that_did_not_finish_by_its_due_time_raises_an_alarm_once(
    tmp_path: Path, clock: Clock
) -> None:
    services = installed(tmp_path, clock)
    clock.now = NIGHT.replace(day=2, hour=2, minute=28)
    for job in JOBS:
        if job.name != "PersonElasticSearchSyncJob":
            succeed(services, job.name, datetime.combine(clock.now.date(), job.at, UTC))
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == set()
    clock.forward(minutes=2)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    check_jobs(services)
    assert open_alarms(services) == {("overdue", "PersonElasticSearchSyncJob")}
    (alarm,) = services.alarms.open_alarms()
    assert "people are missing from search" in alarm.text
    assert "`tis-sync run PersonElasticSearchSyncJob`" in alarm.text
    succeed(services, "PersonElasticSearchSyncJob", clock.now)
    check_jobs(services)
    assert open_alarms(services) == set()
    services.close()


def test_a_scheduler_that_is_not_running_raises_an_alarm_within_a_minute(
    tmp_path: Path, clock: Clock
) -> None:
    services = installed(tmp_path, clock)
    clock.now = NIGHT.replace(hour=9)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == set()
    clock.forward(seconds=55)
    check_jobs(services)
    assert open_alarms(services) == {("no worker", "scheduler")}
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == set()
    services.close()


def test_a_live_scheduler_that_starts_nothing_raises_an_alarm(tmp_path: Path, clock: Clock) -> None:
    services = installed(tmp_path, clock)
    clock.now = NIGHT.replace(day=2, hour=2, minute=6)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert ("no worker", "scheduler") in open_alarms(services)
    services.close()


def test_the_alarm_about_the_scheduler_follows_the_facts(tmp_path: Path, clock: Clock) -> None:
    services = installed(tmp_path, clock)
    clock.now = NIGHT.replace(day=2, hour=2, minute=6)
    check_jobs(services)
    (dead,) = services.alarms.open_alarms(NO_WORKER)
    assert dead.text.startswith("No worker is alive.")
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    (idle,) = services.alarms.open_alarms(NO_WORKER)
    assert idle.text.startswith("The scheduled times of all jobs passed without a run.")
    assert idle.raised_at == dead.raised_at
    services.close()


def test_a_paused_job_is_not_overdue(tmp_path: Path, clock: Clock) -> None:
    services = installed(tmp_path, clock)
    clock.now = NIGHT.replace(day=2, hour=12)
    for job in JOBS[1:]:
        succeed(services, job.name, datetime.combine(clock.now.date(), job.at, UTC))
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services, frozenset({JOBS[0].name}))
    assert open_alarms(services) == set()
    services.close()


def test_a_run_that_takes_unusually_long_raises_an_alarm_while_it_runs(
    tmp_path: Path, clock: Clock
) -> None:
    services = installed(tmp_path, clock)
    job = "PersonElasticSearchSyncJob"
    for hour in (3, 4, 5):
        succeed(services, job, NIGHT.replace(hour=hour), seconds=60)
    clock.now = NIGHT.replace(hour=9)
    begin(services, job)
    clock.forward(seconds=100)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == set()
    clock.forward(seconds=120)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == {("slow", job)}
    services.close()


def test_a_run_that_has_ended_is_no_longer_slow_however_it_ended(
    tmp_path: Path, clock: Clock
) -> None:
    services, run = slow_run(tmp_path, clock)
    services.history.end(run.id, RunState.FAILED, clock())  # after the monitor had looked it up
    check_jobs(services)
    assert open_alarms(services) == set()
    services.close()


def test_a_run_that_the_java_service_does_instead_is_no_longer_slow(
    tmp_path: Path, clock: Clock
) -> None:
    services, run = slow_run(tmp_path, clock)
    end_run(services, run.id, RunState.FAILED, "Already running.", harms_users=False)
    assert open_alarms(services) == set()
    services.close()


def test_a_run_that_waits_for_its_retry_is_not_slow(tmp_path: Path, clock: Clock) -> None:
    services, run = slow_run(tmp_path, clock)
    note_retry(services, run.id, 0, "TCS does not answer.", 3600)
    check_jobs(services)
    assert open_alarms(services) == {("failed", INDEX)}
    (closed,) = [a for a in services.alarms.closed_alarms(9) if a.kind == SLOW]
    assert closed.closing == "No run of the job is taking unusually long."
    clock.forward(hours=1)
    services.history.begin(run.id, clock())  # the wait does not count
    clock.forward(seconds=100)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert ("slow", INDEX) not in open_alarms(services)
    clock.forward(seconds=120)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert ("slow", INDEX) in open_alarms(services)
    services.close()


def test_a_dry_run_is_never_slow(tmp_path: Path, clock: Clock) -> None:
    services, run = slow_run(tmp_path, clock)
    services.history.end(run.id, RunState.SUCCEEDED, clock())
    begin(services, INDEX, dry_run=True)
    clock.forward(minutes=30)
    cluster.refresh_heartbeat(services, schedules=True)
    check_jobs(services)
    assert open_alarms(services) == set()
    services.close()


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
def test_a_monitor_whose_clock_is_wrong_measures_durations_correctly(
    tmp_path: Path, postgresql: str, ahead: float
) -> None:
    settings = Settings(home=tmp_path, state_url=postgresql)
    worker = Services(settings)
    monitor = Services(settings, lambda: utc_now() + timedelta(seconds=ahead))
    cluster.register_worker(worker, schedules=True)
    for hours in (3, 4, 5):
        succeed(worker, INDEX, utc_now() - timedelta(hours=hours), seconds=60)
    run = begin(worker, INDEX)
    check_jobs(monitor, frozenset(job.name for job in JOBS))
    assert open_alarms(worker) == set()
    _let_time_pass(worker, run, minutes=5)
    check_jobs(monitor, frozenset(job.name for job in JOBS))
    assert open_alarms(worker) == {("slow", INDEX)}
    for services in (worker, monitor):
        services.close()


def _let_time_pass(services: Services, run: Run, **by: float) -> None:
    with services.state.write() as connection:
        (since,) = connection.execute(
            sa.select(t.run.c.working_since).where(t.run.c.id == run.id)
        ).one()
        earlier = since - timedelta(**by)
        connection.execute(
            sa.update(t.run).where(t.run.c.id == run.id).values(working_since=earlier)
        )
