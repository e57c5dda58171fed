"""Steps that record how far a run is, and that it begins again."""

from tis_sync.alarms.catalogue import FAILED, Severity
from tis_sync.durable.recorded_step import step
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.logs import run_log
from tis_sync.runs import end
from tis_sync.runs.run import Phase, Trigger
from tis_sync.runs.services import Services


@step
def current_attempt(s: Services, run_id: str) -> int:
    """The number of the attempt that begins; a run that is resumed has had earlier ones."""
    return s.history.get(run_id).attempt


@step
def enter(s: Services, run_id: str, phase: Phase, partitions: int) -> None:
    """Record that the run enters a phase with this number of partitions."""
    s.history.enter_phase(run_id, phase, s.clock(), partitions)
    with run_log(run_id) as log:
        log.info(phase, partitions=partitions)


@step
def note_rebuild(s: Services, run_id: str, attempt: int, reason: str) -> int:
    """Record that the run begins again with a new build; return the number of its next attempt."""
    s.fence(run_id)()
    with run_log(run_id) as log:
        log.warning("building again", reason=reason)
    return s.history.end_attempt(run_id, attempt)


@step
def note_retry(
    s: Services,
    run_id: str,
    attempt: int,
    reason: str,
    seconds: float,
    *,
    harms_users: bool = True,
) -> int:
    """Report a retry after a wait; open an alarm if users are affected in the meantime.

    Returns:
        The number of the next attempt.

    """
    s.fence(run_id)()
    run = s.history.get(run_id)
    end.clean_up(s, run)  # others may work meanwhile
    s.history.enter_phase(run_id, Phase.WAITING, s.clock())
    with run_log(run_id) as log:
        log.warning("waiting", reason=reason, seconds=seconds)
    if harms_users:
        details = f"{reason} The run is retried automatically in {seconds:.0f} s."
        s.alarms.open(
            FAILED, run.job, details, s.clock(), run_id=run_id, severity=Severity.WARNING,
            impact=JOB_BY_NAME[run.job].impact,
        )  # fmt: skip
    return s.history.end_attempt(run_id, attempt, reason)


@step
def is_unattended(s: Services, run_id: str) -> bool:
    """Whether nobody is waiting for the run, so that it must be retried automatically.

    The runs of a night, and follow-ups, belong to what requested them. A scheduled run does not,
    even if it had to wait for the end of another one.
    """
    run = s.history.get(run_id)
    while run.trigger in {Trigger.NIGHT, Trigger.FOLLOW_UP} and run.parent is not None:
        run = s.history.get(run.parent)
    return run.trigger != Trigger.MANUAL
