"""Silence is failure: look for jobs that should have run and did not, and raise alarms."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.alarms.catalogue import NO_WORKER, OVERDUE, SLOW
from tis_sync.alarms.monitoring import close_of_gone_workers
from tis_sync.alarms.store import Alarm
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.checks import RUNS_COMPARED, unusual_duration
from tis_sync.runs.run import NIGHT
from tis_sync.runs.services import Services
from tis_sync.state import tables as t
from tis_sync.state.clock import CLOCK_TOLERANCE
from tis_sync.workers.cluster import live_workers
from tis_sync.workers.schedule import last_time, paused_jobs, times

SCHEDULER, NOBODY = "scheduler", "No worker is alive."
LATE_MINUTES = 5.0  # a job is missed if it has not been requested this long after its time


def check_jobs(services: Services, paused: frozenset[str] | None = None) -> None:
    """Open and close the alarms that depend on time alone: overdue, no worker, slow.

    Args:
        services: settings, clock and servers.
        paused: the names of the jobs whose schedules are paused. None: look them up.

    """
    now = services.clock()
    since = _in_use_since(services)
    _check_workers(services, now, since)
    paused = paused_jobs(services) if paused is None else paused
    for job in JOBS:
        due = last_time(times(services.settings)[job.name], now)
        if since is None or due < since or job.name in paused:
            continue
        last = services.history.last_success(job.name)
        if last is not None and _is_of(due, last.started_at or last.created_at):
            services.alarms.close(OVERDUE, job.name, now)
        elif now >= due + timedelta(minutes=services.settings.due_minutes):
            when = "none so far" if last is None else f"{last.created_at:%Y-%m-%d %H:%M} UTC"
            details = (
                f"{job.name} was due at {due:%Y-%m-%d %H:%M} UTC and has not succeeded since "
                f"(last success: {when})."
            )
            services.alarms.open(OVERDUE, job.name, details, now, impact=job.impact)
    _check_durations(services, now)
    close_of_gone_workers(services)


def missing_worker(services: Services) -> Alarm | None:
    """The alarm that no worker is alive, for commands that only look: nothing is recorded.

    Only workers open and close alarms, so a command must notice this one itself.
    """
    if live_workers(services) or _in_use_since(services) is None:
        return None
    text = NO_WORKER.text(SCHEDULER, NOBODY)
    return Alarm(NO_WORKER, SCHEDULER, text, services.clock(), None, None, NO_WORKER.severity)


def _check_workers(services: Services, now: datetime, since: datetime | None) -> None:
    """Check that a worker is alive, and that scheduled times do not pass without a run."""
    details = NOBODY
    if live_workers(services):
        missed = [job.name for job in JOBS if _was_missed(services, job.name, now, since)]
        # Some jobs may be paused. The scheduler is only at fault if all jobs were missed.
        if len(missed) < len(JOBS):
            services.alarms.close(NO_WORKER, SCHEDULER, now)
            return
        details = "The scheduled times of all jobs passed without a run."
    if since is not None:
        services.alarms.open(NO_WORKER, SCHEDULER, details, now)


def _was_missed(services: Services, job: str, now: datetime, since: datetime | None) -> bool:
    due = last_time(times(services.settings)[job], now - timedelta(minutes=LATE_MINUTES))
    if since is None or due < since or services.history.active(job) is not None:
        return False
    last = services.history.last(job)
    return last is None or not _is_of(due, last.created_at)


def _is_of(due: datetime, at: datetime) -> bool:
    """Whether a run of this time may be the one that was due.

    The machine whose clock is fastest requests it, and any other may carry it out. A run on request
    shortly before the scheduled one counts as well: if the scheduled one fails, that is an alarm.
    """
    return at >= due - CLOCK_TOLERANCE


def _check_durations(services: Services, now: datetime) -> None:
    """Open the alarms about slow runs, and close those about runs that are not slow or not there.

    The end of a run closes its alarm too, but a run may end while this looks at it.
    """
    slow = set()
    for run, seconds in services.history.working(services.clock):
        if run.job == NIGHT or run.options.dry_run:
            continue
        before = [
            r.seconds
            for r in services.history.successes(run.job, RUNS_COMPARED)
            if r.seconds is not None
        ]
        found = unusual_duration(seconds, before, services.settings.unusual_duration_factor)
        if found is not None:
            slow.add(run.job)
            details = f"{run.job} is taking unusually long: {found}."
            services.alarms.open(SLOW, run.job, details, now, run_id=run.id, run=run.id[:8])
    services.alarms.close_others(SLOW, slow, now)


def _in_use_since(services: Services) -> datetime | None:
    """When this installation was first used: the time of its first run or worker."""
    firsts = [
        sa.select(sa.func.min(t.run.c.created_at)),
        sa.select(sa.func.min(t.worker.c.started_at)),
    ]
    with services.state.read() as connection:
        found = [connection.scalar(statement) for statement in firsts]
    return min((moment for moment in found if moment is not None), default=None)
