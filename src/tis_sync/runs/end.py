"""The end of runs and nights: free locks, drop the build, settle alarms, request follow-ups."""

import time

from tis_sync.alarms.catalogue import FAILED, HELD, OVERDUE, SLOW
from tis_sync.durable import step
from tis_sync.errors import AlreadyRunningError, TisSyncError
from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.logs import get, run_log
from tis_sync.runs.request import days_of, request_run
from tis_sync.runs.run import Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.model import IndexSpec
from tis_sync.tcs import shedlock

NIGHT_POLL_SECONDS = 0.2  # how often a night checks its runs


@step
def finish(s: Services, run_id: str, state: RunState, error: str | None) -> list[str]:
    """End the run: free its locks, open or close alarms, and request its follow-ups.

    Returns:
        The ids of the runs that follow, which the caller queues.

    """
    run = s.history.get(run_id)
    job = JOB_BY_NAME[run.job]
    is_index = isinstance(job.target, IndexTarget)
    if state != RunState.SUCCEEDED and is_index and not run.options.dry_run:
        _drop_build(s, run)
    _free_java_lock(s, job, run)
    has_changes = state == RunState.SUCCEEDED and run.written and not run.options.dry_run
    if has_changes and run.options.follow_ups and run.trigger != Trigger.NIGHT:
        request_follow_ups(s, run, job)
    if not run.options.dry_run:
        notify_end(s, run, job, state, error)
    s.history.end(run_id, state, s.clock(), error, rerun_as_of=days_of(s, job))
    s.workspaces.drop(run_id)
    run = s.history.get(run_id)
    with run_log(run_id) as log:
        (log.info if state == RunState.SUCCEEDED else log.error)(
            state,
            job=run.job,
            seconds=None if run.seconds is None else round(run.seconds, 2),
            added=run.added,
            changed=run.changed,
            removed=run.removed,
            error=error,
        )
    return [child.id for child in s.history.children(run_id)]


@step
def finish_night(s: Services, night_id: str, run_ids: list[str]) -> RunState:
    """End a night when all its runs have ended: it succeeded if all of them did."""
    runs = s.history.many(run_ids)
    while any(run.is_active for run in runs):
        if not s.history.get(night_id).is_active:
            return RunState.CANCELLED
        time.sleep(NIGHT_POLL_SECONDS)
        runs = s.history.many(run_ids)
    unsuccessful = [run for run in runs if run.state != RunState.SUCCEEDED]
    state = RunState.SUCCEEDED
    if unsuccessful:
        # A job that did not run because another is held waits for the same decision.
        states = {run.state for run in unsuccessful}
        is_held = RunState.HELD in states and RunState.FAILED not in states
        state = RunState.HELD if is_held else RunState.FAILED
    error = "; ".join(f"{run.job} {run.state}" for run in unsuccessful) or None
    s.history.note(
        night_id,
        considered=sum(run.considered or 0 for run in runs),
        added=sum(run.added or 0 for run in runs),
        changed=sum(run.changed or 0 for run in runs),
        removed=sum(run.removed or 0 for run in runs),
        set_aside=sum(run.set_aside or 0 for run in runs),
    )
    s.history.end(night_id, state, s.clock(), error)
    s.workspaces.drop(night_id)
    return state


def notify_end(s: Services, run: Run, job: Job, state: RunState, error: str | None) -> None:
    """Open and close the alarms that depend on how a run ended. Can be repeated after a crash.

    Call this before the run is recorded as ended, so that anyone waiting for it finds the alarms up
    to date.
    """
    now = s.clock()
    s.alarms.close(SLOW, run.job, now)
    if state == RunState.SUCCEEDED:
        for kind in (FAILED, HELD, OVERDUE):
            s.alarms.close(kind, run.job, now)
        if s.settings.notify_runs:
            s.notify(
                f"{job.name} finished",
                f"Added {run.added or 0:,}, changed {run.changed or 0:,}, "
                f"removed {run.removed or 0:,}.",
            )
    elif state in {RunState.HELD, RunState.FAILED}:
        kind = HELD if state == RunState.HELD else FAILED
        s.alarms.open(kind, run.job, error or "", now, run_id=run.id, impact=job.impact)


def request_follow_ups(s: Services, run: Run, job: Job) -> None:
    """Request the jobs that build on this one; an active one is run again when it ends.

    Call this before the run is recorded as ended, so that anyone waiting for a run and everything
    that follows it misses nothing. Can be repeated after a crash.
    """
    requested = {child.job for child in s.history.children(run.id)}
    for name in job.follow_ups:
        while name not in requested and not _is_requested(s, run, JOB_BY_NAME[name]):
            pass  # the active run has just ended: try again


def _is_requested(s: Services, run: Run, job: Job) -> bool:
    try:
        request_run(
            s,
            job,
            trigger=Trigger.FOLLOW_UP,
            requested_by=run.requested_by,
            options=RunOptions(),
            parent=run.id,
        )
    except AlreadyRunningError as error:
        return error.run_id is not None and s.history.request_rerun(error.run_id)
    return True


def index_spec(run: Run) -> IndexSpec:
    """The index that the job of a run maintains."""
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, IndexTarget)
    return target.spec


def _drop_build(s: Services, run: Run) -> None:
    """Drop the index that a run has built but not published."""
    spec = index_spec(run)
    index = f"{spec.alias}-{run.build_name}"
    try:
        live = s.search().live(spec)
        if live is None or live.name != index:
            s.search().drop(index)
    except TisSyncError as error:
        get().warning("build not dropped", index=index, reason=str(error))


def _free_java_lock(s: Services, job: Job, run: Run) -> None:
    """Free the Java service's lock. If TCS does not answer, the lock expires."""
    if not s.settings.java_shedlock or run.options.dry_run:
        return
    try:
        shedlock.release(s.tcs(), job.lock_name, run.lock_owner, s.clock())
    except TisSyncError as error:
        get().warning("lock not freed", lock=job.lock_name, reason=str(error))
