"""Runs that no workflow carries out: they are queued, begin again, or end with an explanation."""

from dbos import DBOS, WorkflowStatus

from tis_sync.durable.engine import WORKFLOW_VERSION
from tis_sync.durable.model import FAILED, MOST_RECOVERIES, UNFINISHED
from tis_sync.durable.tables import client
from tis_sync.errors import TisSyncError
from tis_sync.execution.workflow import start, start_runs
from tis_sync.logs import reason_of, report, run_log
from tis_sync.runs import end
from tis_sync.runs.run import Run, RunState
from tis_sync.runs.services import Services

ORPHAN_SECONDS = 10.0  # a run that was requested this long ago and never queued is an orphan
OUTDATED = "It was begun by an earlier version of tis-sync; run it again."


def recover_runs(services: Services) -> None:
    """Queue runs that were requested but never queued; begin or end those whose workflow has ended.

    A process that dies between two statements can leave either behind. A workflow ends before its
    run if the state database is away for long. A run that cannot be recovered does not keep the
    others from it.

    Raises:
        TisSyncError: runs that could not be recovered; the next call tries again.

    """
    failures = []
    for run in services.history.all_active():
        if (services.clock() - run.created_at).total_seconds() < ORPHAN_SECONDS:
            continue
        try:
            _recover(services, run)
        except Exception as error:  # noqa: BLE001  reported below
            report("run not recovered", error, run=run.id[:8])
            failures.append(f"{run.id[:8]} of {run.job}: {reason_of(error)}")
    for run in services.history.to_clean_up():
        end.clean_up(services, run)
    if failures:
        raise TisSyncError(f"Runs could not be recovered: {'; '.join(failures)}")


def _recover(services: Services, run: Run) -> None:
    status = DBOS.get_workflow_status(run.workflow_id)
    if status is None:
        start(services, run)
    elif status.status == FAILED and run.recoveries < MOST_RECOVERIES:
        if services.history.begin_again(run):
            with run_log(run.id) as log:
                log.warning("begins again", reason="its workflow has ended with an error")
            start(services, services.history.get(run.id))
    elif status.status not in UNFINISHED:
        state = RunState.CANCELLED if status.status == "CANCELLED" else RunState.FAILED
        error = f"its workflow ended with {status.status} before the run did"
        if status.status == FAILED:
            error = (
                f"its workflow ended with an error {run.recoveries + 1} times; the logs of the "
                "workers contain the causes"
            )
        start_runs(services, end.end_run(services, run.id, state, error))
    elif _is_outdated(services, status):
        with client(services.settings) as dbos:
            dbos.cancel_workflows([run.workflow_id], cancel_children=True)
        start_runs(services, end.end_run(services, run.id, RunState.FAILED, OUTDATED))


def _is_outdated(services: Services, status: WorkflowStatus) -> bool:
    """Whether an unfinished workflow is of an earlier version, so that no worker resumes it."""
    version = status.app_version
    if version is None or (version.isdigit() and int(version) >= int(WORKFLOW_VERSION)):
        return False
    return status.executor_id not in services.workers.alive(all_processes=True)
