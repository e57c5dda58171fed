"""The first step of a run: wait until the jobs that it depends on have ended."""

from tis_sync.durable.recorded_step import step
from tis_sync.durable.work import pause
from tis_sync.jobs.catalogue import JOB_BY_NAME, upstream
from tis_sync.runs.run import RunState, Trigger
from tis_sync.runs.services import Services

TURN_SECONDS = 0.2  # how often a waiting run checks the runs that it waits for


@step
def wait_for_turn(s: Services, run_id: str) -> str | None:
    """Wait until no upstream job is active, then begin.

    Returns:
        None if the run may continue; otherwise why not: an upstream job did not succeed.

    """
    run = s.history.get(run_id)
    job = JOB_BY_NAME[run.job]
    ahead = upstream(job) if run.trigger == Trigger.NIGHT else set(job.depends_on)
    seen: dict[str, str] = {}
    while waiting_for := s.history.active_of(ahead):
        seen |= {other.job: other.id for other in waiting_for}
        if not s.history.get(run_id).is_active:
            return "cancelled while it was waiting"
        pause(TURN_SECONDS)
    if run.trigger in {Trigger.NIGHT, Trigger.SCHEDULE}:
        for name in sorted(ahead):
            last = s.history.get(seen[name]) if name in seen else s.history.last(name)
            if last is not None and last.state in {
                RunState.FAILED,
                RunState.HELD,
                RunState.CANCELLED,
            }:
                return (
                    f"not run, because {name} {last.state} (run {last.id[:8]}). Fix that and run "
                    f"it: `tis-sync run {name}`; this job follows"
                )
    s.history.begin(run_id, s.clock())
    return None
