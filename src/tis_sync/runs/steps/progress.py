"""Steps that record how far a run is, and that it begins again."""

from tis_sync.alarms.catalogue import FAILED, Severity
from tis_sync.durable.recorded_step import step
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.logs import run_log
from tis_sync.runs import end
from tis_sync.runs.run import Phase, Trigger
from tis_sync.runs.services import Services


@step
def enter(s: Services, run_id: str, phase: Phase, partitions: int) -> None:
    """Record that the run enters a phase with this number of partitions."""
    s.history.enter_phase(run_id, phase, s.clock(), partitions)
    with run_log(run_id) as log:
        log.info(phase, partitions=partitions)


@step
def note_rebuild(s: Services, run_id: str, reason: str) -> None:
    """Record that the run begins again with a new build."""
    s.history.next_attempt(run_id)
    with run_log(run_id) as log:
        log.warning("building again", reason=reason)


@step
def note_retry(
    s: Services, run_id: str, reason: str, seconds: float, *, harms_users: bool = True
) -> None:
    """Report that the run will be retried after a wait; open an alarm if users suffer till then."""
    run = s.history.get(run_id)
    s.history.next_attempt(run_id)
    end.clean_up(s, run)  # others may work meanwhile
    s.history.enter_phase(run_id, Phase.WAITING, s.clock())
    with run_log(run_id) as log:
        log.warning("waiting", reason=reason, seconds=seconds)
    if not harms_users:
        return
    details = f"{reason} The run is retried automatically in {seconds:.0f} s."
    impact = JOB_BY_NAME[run.job].impact
    s.alarms.open(
        FAILED, run.job, details, s.clock(), run_id=run_id, severity=Severity.WARNING, impact=impact
    )


@step
def is_unattended(s: Services, run_id: str) -> bool:
    """Whether nobody is waiting for the run, so that it must be retried automatically."""
    run = s.history.get(run_id)
    while run.parent is not None:
        run = s.history.get(run.parent)
    return run.trigger != Trigger.MANUAL
