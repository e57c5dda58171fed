"""Silence is failure: look, every half minute, for what should have happened and did not."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT
from tis_sync.runs.schedule import last_time, times
from tis_sync.runs.services import Services
from tis_sync.runs.unusual import RUNS_COMPARED, unusual_duration
from tis_sync.runs.workers import living
from tis_sync.state import tables as t

WATCH_SECONDS = 30.0
LATE_MINUTES = 5.0  # a run that was not even asked for so long after its time


def watch(services: Services, paused: frozenset[str] = frozenset()) -> None:
    """Raise and close the alarms that time alone decides: overdue, silent, slow.

    Args:
        services: the servers; the clock tells the moment that is looked at.
        paused: names of jobs whose schedule is paused.

    """
    now = services.clock()
    since = _in_use_since(services)
    _silent(services, now, since)
    for job in JOBS:
        came = last_time(times(services.settings)[job.name], now)
        if since is None or came < since or job.name in paused:
            continue
        last = services.history.last_success(job.name)
        if last is not None and (last.started_at or last.created_at) >= came:
            services.alarms.close("overdue", job.name, now)
        elif now >= came + timedelta(minutes=services.settings.due_minutes):
            when = "never" if last is None else f"{last.created_at:%Y-%m-%d %H:%M} UTC"
            services.alarms.raise_(
                "overdue",
                job.name,
                f"{job.name} should have succeeded since {came:%Y-%m-%d %H:%M} UTC (last success: "
                f"{when}). Until it does: {job.stale}. Run it: `tis-sync run {job.name}`.",
                now,
            )
    _slow(services, now)


def _silent(services: Services, now: datetime, since: datetime | None) -> None:
    """No worker with schedules lives, or the times of jobs pass without a run."""
    alive = living(services.state, now, services.settings.dead_after_seconds)
    reason = "No worker lives"
    if alive:
        passed = [job.name for job in JOBS if _passed_by(services, job.name, now, since)]
        # One job may be paused or overridden; that all were passed by is the scheduler's silence.
        if len(passed) < len(JOBS):
            services.alarms.close("silent", "scheduler", now)
            return
        reason = "The times of all jobs passed without a run"
    if since is None:
        return
    services.alarms.raise_(
        "silent",
        "scheduler",
        f"{reason}; no job starts by itself, and people and posts in search grow old. "
        "Start a worker: `tis-sync work`; make good what was missed: `tis-sync night`.",
        now,
    )


def _passed_by(services: Services, job: str, now: datetime, since: datetime | None) -> bool:
    came = last_time(times(services.settings)[job], now - timedelta(minutes=LATE_MINUTES))
    if since is None or came < since or services.history.active(job) is not None:
        return False
    last = services.history.last(job)
    return last is None or last.created_at < came


def _slow(services: Services, now: datetime) -> None:
    for run in services.history.all_active():
        if run.started_at is None or run.job == NIGHT:
            continue
        before = [
            r.seconds
            for r in services.history.successes(run.job, RUNS_COMPARED)
            if r.seconds is not None
        ]
        seconds = (now - run.started_at).total_seconds()
        found = unusual_duration(seconds, before, services.settings.unusual_duration_factor)
        if found is not None:
            services.alarms.raise_(
                "slow",
                run.job,
                f"{run.job} takes unusually long: {found}. Nothing half-done is visible; see "
                f"`tis-sync show {run.id[:8]} --log`, stop it by `tis-sync cancel {run.id[:8]}`.",
                now,
                run.id,
            )


def _in_use_since(services: Services) -> datetime | None:
    """Since when this installation has been meant to run by itself: its first run or worker."""
    firsts = [
        sa.select(sa.func.min(t.run.c.created_at)),
        sa.select(sa.func.min(t.worker.c.started_at)),
    ]
    with services.state.connect() as connection:
        found = [connection.scalar(statement) for statement in firsts]
    return min((moment for moment in found if moment is not None), default=None)
