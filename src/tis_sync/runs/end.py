"""The end of runs and nights: free locks, drop the build, settle alarms, request follow-ups."""

from tis_sync.alarms.catalogue import FAILED, HELD, OVERDUE, SLOW, Resolution
from tis_sync.alarms.store import Closing
from tis_sync.durable.recorded_step import step
from tis_sync.durable.work import pause
from tis_sync.errors import TisSyncError
from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.logs import get, run_log
from tis_sync.runs.checks import check_set_aside
from tis_sync.runs.request import days_of, request_child
from tis_sync.runs.run import NIGHT, Phase, Run, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.model import IndexSpec
from tis_sync.tcs import shedlock

NIGHT_POLL_SECONDS = 0.2  # how often a night checks its runs
HELD_SINCE = Closing(Resolution.SUPERSEDED, "A later run did not fail: the guard holds its plan.")


def end_run(
    s: Services, run_id: str, state: RunState, error: str | None, *, harms_users: bool = True
) -> list[str]:
    """End a run or a night, however it ends; every ending goes through here.

    Locks are freed, unfinished builds dropped, alarms settled, and the runs that follow requested.
    It can be repeated, by any process: a run that has ended keeps the state in which it ended.

    Args:
        s: settings, clock and servers.
        run_id: the run or night.
        state: how it ends.
        error: why it did not succeed.
        harms_users: whether a failure leaves work undone, so that it opens an alarm (see
            `TisSyncError.harms_users`).

    Returns:
        The ids of the runs that follow, which the caller queues.

    """
    run = s.history.get(run_id)
    if run.job == NIGHT:
        s.history.end(run_id, state, s.clock(), error)
        s.workspaces.drop(run_id)
        return []
    if not run.is_active:
        state, error = run.state, run.error
    job = JOB_BY_NAME[run.job]
    clean_up(s, run)
    if _needs_follow_ups(s, run):
        request_follow_ups(s, run, job)
    if run.is_active and not run.options.dry_run:
        notify_end(s, run, job, state, error, harms_users=harms_users)
    rerun = s.history.end(run_id, state, s.clock(), error, rerun_as_of=days_of(s, job))
    if run.is_active and state != RunState.SUCCEEDED:
        clean_up(s, run)  # what steps in flight took before their fences stopped them
    _forget_losses(s, run, state)
    s.workspaces.drop(run_id)
    if run.is_active:
        _log_end(s.history.get(run_id))
    following = [child.id for child in s.history.children(run_id) if child.is_active]
    return following if rerun is None or rerun in following else [*following, rerun]


finish = step(end_run)


def clean_up(s: Services, run: Run) -> None:
    """Free the lock and drop the unfinished builds of a run.

    If a server does not answer, this is tried again later: see `History.to_clean_up`. So it is if a
    step that is still in flight takes the lock or begins a build after this.
    """
    s.history.expect_cleanup(run.id, needed=False)
    is_clean = True
    if not run.options.dry_run:
        if isinstance(JOB_BY_NAME[run.job].target, IndexTarget):
            is_clean = _drop_builds(s, run)
        is_clean = _free_java_lock(s, run) and is_clean
    if not is_clean:
        s.history.expect_cleanup(run.id, needed=True)


def _needs_follow_ups(s: Services, run: Run) -> bool:
    """Whether the run has written something, or may have, that other jobs build on.

    What counts is whether any attempt began to write, not how the last one ended: a commit may have
    gone through although its connection was cut, and then the next attempt finds nothing to do.
    """
    if run.options.dry_run or not run.options.follow_ups:
        return False
    if run.trigger == Trigger.NIGHT and not run.restarts:
        return False  # the night runs those jobs too, or was cancelled with all of them
    return any(name in {Phase.APPLY, Phase.REPLACE} for name, _ in s.history.phases(run.id))


def _forget_losses(s: Services, run: Run, state: RunState) -> None:
    """Keep the losses of a held plan until it is approved or superseded."""
    is_real_success = state == RunState.SUCCEEDED and not run.options.dry_run
    if is_real_success and run.options.approved_run is not None:
        s.losses.forget(run.options.approved_run)
    if is_real_success and not run.past_day:
        s.losses.forget_job(run.job)
    elif state != RunState.HELD:
        s.losses.forget(run.id)


def _log_end(run: Run) -> None:
    with run_log(run.id) as log:
        (log.info if run.state == RunState.SUCCEEDED else log.error)(
            run.state,
            job=run.job,
            seconds=None if run.seconds is None else round(run.seconds, 2),
            added=run.added,
            changed=run.changed,
            removed=run.removed,
            error=run.error,
        )


@step
def finish_night(s: Services, night_id: str) -> RunState:
    """End a night when it has a run of every job and all have ended.

    A job that was active when the night began has its run of the night when that one has ended.

    Returns:
        SUCCEEDED if all runs did.

    """
    while True:
        runs = [r for r in s.history.children(night_id) if r.trigger == Trigger.NIGHT]
        if {run.job for run in runs} >= set(JOB_BY_NAME) and not any(r.is_active for r in runs):
            break
        if not s.history.get(night_id).is_active:
            return RunState.CANCELLED
        pause(NIGHT_POLL_SECONDS)
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
    end_run(s, night_id, state, error)
    return state


def notify_end(
    s: Services,
    run: Run,
    job: Job,
    state: RunState,
    error: str | None,
    *,
    harms_users: bool = True,
) -> None:
    """Open and close the alarms that depend on how a run ended. Can be repeated after a crash.

    Call this before the run is recorded as ended, so that anyone waiting for it finds the alarms up
    to date. Arguments as for `end_run`.
    """
    now = s.clock()
    s.alarms.close(SLOW, run.job, now)
    is_complete = state == RunState.SUCCEEDED and not run.past_day
    check_set_aside(s, run, run.set_aside or 0, is_complete=is_complete)
    if state == RunState.SUCCEEDED:
        if not run.past_day:  # a day in the past says nothing about the days since
            for kind in (FAILED, HELD, OVERDUE):
                s.alarms.close(kind, run.job, now)
        if s.settings.notify_runs:
            s.notify(
                f"{job.name} finished",
                f"Added {run.added or 0:,}, changed {run.changed or 0:,}, "
                f"removed {run.removed or 0:,}.",
            )
    elif state == RunState.CANCELLED:
        _note_cancelled_retry(s, run, job, error)
    elif state == RunState.HELD or harms_users:
        kind = HELD if state == RunState.HELD else FAILED
        if kind == HELD:
            s.alarms.close(FAILED, run.job, now, HELD_SINCE)
        s.alarms.open(kind, run.job, error or "", now, run_id=run.id, impact=job.impact)


def _note_cancelled_retry(s: Services, run: Run, job: Job, reason: str | None) -> None:
    """Correct the alarm that announces a retry of this run.

    The alarm stays open, because what the run should have done is still to do.
    """
    failed = [a for a in s.alarms.open_alarms(FAILED) if (a.subject, a.run_id) == (run.job, run.id)]
    for alarm in failed:
        cause = run.error or "An attempt failed."
        details = f"{cause} The run ended before a retry succeeded: {reason}."
        s.alarms.open(
            FAILED,
            run.job,
            details,
            s.clock(),
            run_id=run.id,
            severity=alarm.severity,
            impact=job.impact,
        )


def request_follow_ups(s: Services, run: Run, job: Job) -> None:
    """Request the jobs that build on this one; an active one is run again when it ends.

    Call this before the run is recorded as ended, so that anyone waiting for a run and everything
    that follows it misses nothing. Can be repeated after a crash.
    """
    for name in job.follow_ups:
        while not request_child(s, JOB_BY_NAME[name], run, Trigger.FOLLOW_UP):
            pass  # the active run has just ended: try again


def index_spec(run: Run) -> IndexSpec:
    """The index that the job of a run maintains."""
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, IndexTarget)
    return target.spec


def build_index(run: Run, build: str) -> str:
    """The name of the index of a build of a run."""
    return f"{index_spec(run).alias}-{build}"


def _drop_builds(s: Services, run: Run) -> bool:
    """Drop what the run has built but not published; False if the search server does not answer."""
    try:
        for build in run.builds:
            s.search().drop(index_spec(run), build_index(run, build))
    except TisSyncError as error:
        get().warning("build not dropped", run=run.id[:8], reason=str(error))
        return False
    return True


def _free_java_lock(s: Services, run: Run) -> bool:
    """Free the Java service's lock; False if TCS does not answer. The lock also expires."""
    if not s.settings.java_shedlock:
        return True
    lock = JOB_BY_NAME[run.job].lock_name
    try:
        shedlock.release(s.tcs(), lock, run.lock_owner, s.clock())
    except TisSyncError as error:
        get().warning("lock not freed", lock=lock, reason=str(error))
        return False
    return True
