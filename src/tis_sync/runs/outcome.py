"""What the end of a run means to others: alarms, and the runs that follow."""

from tis_sync.errors import AlreadyRunningError
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import BY_NAME
from tis_sync.runs.ask import ask
from tis_sync.runs.run import Options, Run, State
from tis_sync.runs.services import Services


def announce(s: Services, run: Run, job: Job, state: State, error: str | None) -> None:
    """Alarms for how a run ends.

    To be called before the run is recorded as ended, so that who waits for it finds them as they
    are then. May be called again after a crash.
    """
    now = s.clock()
    s.alarms.close("slow", run.job, now)
    if state == "succeeded":
        for kind in ("failed", "held", "overdue"):
            s.alarms.close(kind, run.job, now)
        if s.settings.alert_runs:
            s.tell(
                f"{job.name} finished",
                f"Added {run.added or 0:,}, changed {run.changed or 0:,}, "
                f"removed {run.removed or 0:,}.",
            )
    elif state == "held":
        s.alarms.raise_(state, run.job, f"{error} Until then: {job.stale}.", now, run.id)
    elif state == "failed":
        text = f"{error} Until it is mended: {job.stale}. Then: `tis-sync run {job.name}`."
        s.alarms.raise_(state, run.job, text, now, run.id)


def follow_ups(s: Services, run: Run, job: Job) -> None:
    """Ask for the jobs that follow a run; one that is active already is run once more when it ends.

    To be called before the run is recorded as ended, so that who waits for a run and all that
    follows it misses none. May be called again after a crash.
    """
    asked = {child.job for child in s.history.children(run.id)}
    for name in job.follow_ups:
        while name not in asked and not _asked_for(s, run, BY_NAME[name]):
            pass  # the run that was in the way has ended in this moment


def _asked_for(s: Services, run: Run, job: Job) -> bool:
    try:
        ask(s, job, trigger="follow-up", who=run.who, options=Options(), parent=run.id)
    except AlreadyRunningError as error:
        return error.run_id is not None and s.history.ask_again(error.run_id)
    return True
