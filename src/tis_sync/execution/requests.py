"""Requests for runs: those of a schedule, those of a night, and another one after a run."""

from tis_sync.durable.recorded_step import step
from tis_sync.errors import AlreadyRunningError
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOB_BY_NAME, night_order
from tis_sync.logs import get, run_log
from tis_sync.runs.request import request_child, request_run
from tis_sync.runs.run import Rerun, Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services


@step
def request_scheduled(s: Services, job_name: str) -> list[str]:
    """Request a scheduled run; if the job has an active run, have another one follow it.

    A run that was requested today and has not begun needs no other: it does what this one would.

    Returns:
        The id of the run, or an empty list.

    """
    while True:
        try:
            run = request_run(
                s,
                JOB_BY_NAME[job_name],
                trigger=Trigger.SCHEDULE,
                requested_by=Trigger.SCHEDULE,
                options=RunOptions(),
            )
        except AlreadyRunningError as error:
            active = None if error.run_id is None else s.history.get(error.run_id)
            if active is None or not active.is_active:
                continue  # it has just ended
            is_same = active.options == RunOptions() and active.as_of.today == s.clock().date()
            rerun = Rerun(Trigger.SCHEDULE, Trigger.SCHEDULE)
            if active.state == RunState.QUEUED and is_same:
                get().info("not started", job=job_name, reason=str(error))
                return []
            if s.history.request_rerun(active.id, rerun):
                get().info("starts later", job=job_name, reason=str(error))
                return []
        else:
            return [run.id]


@step
def request_night_runs(s: Services, night_id: str) -> list[str]:
    """Request a run of every job, upstream jobs first.

    A job with an active run gets its run of the night when that one has ended: an active run may
    have begun before the upstream jobs of the night.

    Returns:
        The ids of the runs that can be queued now.

    """
    s.fence(night_id)()
    night = s.history.get(night_id)
    s.history.begin(night_id, s.clock())
    requested = {run.job for run in s.history.children(night_id)}
    for job in night_order():
        approved = _approved_run(s, night, job)
        while job.name not in requested and not request_child(
            s, job, night, Trigger.NIGHT, approved
        ):
            pass  # its active run has just ended: try again
    return [run.id for run in s.history.children(night_id)]


def _approved_run(s: Services, night: Run, job: Job) -> str | None:
    """The held run of a job that a night approves, or None.

    An approved night covers the plans that it held. `tis-sync night --approve` names no night; it
    covers the last plan of each job, if that is held.
    """
    if not night.options.approve:
        return None
    last = next(
        (r for r in s.history.recent(2, job.name, only_usual=True) if not r.is_active), None
    )
    if last is None or last.state != RunState.HELD:
        return None
    return last.id if night.options.approved_run in {None, last.parent} else None


def request_another(s: Services, run: Run, reason: str) -> None:
    """Have another run follow this one, unless this one is such a run itself."""
    is_second = (
        run.trigger == Trigger.FOLLOW_UP
        and run.parent is not None
        and s.history.get(run.parent).job == run.job
    )
    with run_log(run.id) as log:
        log.warning("edits during the run", reason=reason, another_run=not is_second)
    if not is_second:
        s.history.request_rerun(run.id, Rerun(Trigger.FOLLOW_UP, run.requested_by))
