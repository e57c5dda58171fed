"""Runs and nights as durable workflows: after a crash they are resumed where they stopped.

    run_job:    wait for upstream jobs -> prepare -> plan -> judge
                -> apply, or fill and publish -> finish -> follow-ups
    run_night:  request every job at once; each waits for its upstream jobs; end when all have ended

Planning, applying and filling take one queue item for each partition, so that the workers can share
them. A run with a single partition does the work itself.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dbos import DBOS, WorkflowStatus

from tis_sync.durable.engine import WORKFLOW_VERSION
from tis_sync.durable.model import UNFINISHED, Queue, Workflow
from tis_sync.durable.tables import client
from tis_sync.errors import (
    HeldError,
    IncompleteBuildError,
    StorageFullError,
    TisSyncError,
    UsageError,
)
from tis_sync.execution import (
    build,
    in_place,
    judgement,
    partitions,
    preparation,
    progress,
    requests,
    table,
    turn,
)
from tis_sync.execution.judgement import Decision
from tis_sync.execution.preparation import Mode
from tis_sync.jobs.catalogue import job_named
from tis_sync.logs import reason_of, report
from tis_sync.runs import end
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.request import days_of
from tis_sync.runs.run import NIGHT, Phase, Run, RunState
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state.liveness import RunEndedError
from tis_sync.tcs.key_ranges import KeyRange

RUNS_QUEUE = "tis_sync_runs"
PARTITIONS_QUEUE = "tis_sync_partitions"
RUNS_PER_WORKER = 64  # runs mostly wait; the heavy work is in the partitions queue
ORPHAN_SECONDS = 10.0  # a run that was requested this long ago and never queued is an orphan
CANCELLED = "cancelled by a person"
OUTDATED = "It was begun by an earlier version of tis-sync; run it again."
RESULT_POLL_SECONDS = 0.1  # how often a run checks for the results of its partitions
MOST_REBUILDS = 3  # builds in a row that changes in TCS may spoil
# Waits before the retries of a run that nobody is waiting for; after the last retry it has failed.
RETRY_SECONDS: tuple[float, ...] = (60, 120, 300, 600, 1800, 1800, 3600, 3600)


def queues(settings: Settings) -> tuple[Queue, ...]:
    """The queues of runs and of their partitions."""
    return (
        Queue(RUNS_QUEUE, RUNS_PER_WORKER),
        Queue(PARTITIONS_QUEUE, settings.partitions_at_once),
    )


def run_job(s: Services, run_id: str) -> RunState:
    """Carry out one run to its end; return the state in which it ended."""
    retries = rebuilds = 0
    attempt = progress.current_attempt(s, run_id)
    while True:
        try:
            blocked = turn.wait_for_turn(s, run_id)
            if blocked is not None:
                return _end(s, run_id, RunState.CANCELLED, blocked)
            _carry_out(s, run_id, attempt)
            return _end(s, run_id, RunState.SUCCEEDED, None)
        except RunEndedError:
            return s.history.get(run_id).state
        except HeldError as error:
            return _end(s, run_id, RunState.HELD, str(error))
        except IncompleteBuildError as error:
            # A partition was filled again after TCS had changed. A new build settles that.
            if rebuilds == MOST_REBUILDS:
                return _end(s, run_id, RunState.FAILED, str(error))
            attempt = progress.note_rebuild(s, run_id, attempt, str(error))
            rebuilds += 1
        except TisSyncError as error:
            # A full disk is reported at once, because a person has to free some space.
            is_transient = error.transient and not isinstance(error, StorageFullError)
            is_last = retries == len(RETRY_SECONDS)
            if not is_transient or is_last or not progress.is_unattended(s, run_id):
                return _end(s, run_id, RunState.FAILED, str(error), harms_users=error.harms_users)
            seconds = RETRY_SECONDS[retries]
            attempt = progress.note_retry(
                s, run_id, attempt, str(error), seconds, harms_users=error.harms_users
            )
            DBOS.sleep(seconds)
            retries += 1


def _carry_out(s: Services, run_id: str, attempt: int) -> None:
    """Bring the job's target to its desired state.

    Raises:
        TisSyncError: any error; readers never see unfinished work.

    """
    prepared = preparation.prepare(s, run_id, attempt)
    ranges, index = prepared.ranges, prepared.index
    if prepared.mode == Mode.REPLACE:
        table.replace_table(s, run_id, attempt, ranges)
        return
    if prepared.mode != Mode.BUILD:
        progress.enter(s, run_id, Phase.PLAN, len(ranges))
        planned: list[PartitionResult] = _each(s, PLAN_PARTITION, ranges, run_id, attempt, index)
        decision = judgement.judge(s, run_id, attempt, planned, prepared.mode)
        if decision == Decision.NOTHING:
            return
        if decision == Decision.APPLY:
            busy = [keys for keys, plan in zip(ranges, planned, strict=True) if plan.writes]
            progress.enter(s, run_id, Phase.APPLY, len(busy))
            refused: list[int] = _each(s, APPLY_PARTITION, busy, run_id, attempt, index)
            set_aside = sum(plan.set_aside for plan in planned) + sum(refused)
            in_place.settle(s, run_id, attempt, index, set_aside, prepared.position)
            return
    building = build.begin_build(s, run_id, attempt)
    progress.enter(s, run_id, Phase.FILL, len(ranges))
    filled: list[PartitionResult] = _each(s, FILL_PARTITION, ranges, run_id, attempt, building)
    build.publish(s, run_id, attempt, building, filled, prepared.position)


def _each(
    s: Services,
    workflow: Workflow,
    ranges: list[KeyRange],
    run_id: str,
    attempt: int,
    index: str | None,
) -> list[Any]:
    """The results of a workflow for every partition, in order."""
    if len(ranges) == 1:
        # There is nothing to share, so a queue would only add latency.
        return [workflow.function(s, run_id, attempt, ranges[0], index)]
    assert s.engine is not None
    arguments = [(run_id, attempt, keys, index) for keys in ranges]
    return s.engine.results(workflow, arguments, RESULT_POLL_SECONDS)


def _end(
    s: Services, run_id: str, state: RunState, error: str | None, *, harms_users: bool = True
) -> RunState:
    start_runs(s, end.finish(s, run_id, state, error, harms_users=harms_users))
    return state


def plan_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str | None
) -> PartitionResult:
    """Plan one partition."""
    try:
        return partitions.plan_partition(s, run_id, attempt, keys, index)
    except RunEndedError:
        return PartitionResult()  # the run stops at its own fence, before it uses this


def apply_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str | None
) -> int:
    """Apply the plan of one partition."""
    try:
        return partitions.apply_partition(s, run_id, attempt, keys, index)
    except RunEndedError:
        return 0


def fill_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str
) -> PartitionResult:
    """Write the documents of one partition into a new index."""
    try:
        return partitions.fill_partition(s, run_id, attempt, keys, index)
    except RunEndedError:
        return PartitionResult()


def run_night(s: Services, night_id: str) -> RunState:
    """Run every job once, in dependency order; return the state in which the night ended."""
    try:
        start_runs(s, requests.request_night_runs(s, night_id))
    except RunEndedError:  # cancelled before it began
        return s.history.get(night_id).state
    return end.finish_night(s, night_id)


def run_scheduled(s: Services, _at: datetime, job_name: str) -> None:
    """Run a job at its scheduled time. DBOS starts this once, however many workers there are."""
    start_runs(s, requests.request_scheduled(s, job_name))


def start_runs(s: Services, run_ids: Iterable[str]) -> None:
    """Have new runs carried out; runs that are already queued or running are left alone."""
    for run_id in run_ids:
        s.enqueue(RUN_JOB, run_id, workflow_id=run_id)


def start_night(s: Services, night_id: str) -> None:
    """Have a requested night carried out."""
    s.enqueue(RUN_NIGHT, night_id, workflow_id=night_id)


def start(s: Services, run: Run) -> None:
    """Have a run or a night carried out that may have been cancelled and resumed."""
    workflow = RUN_NIGHT if run.job == NIGHT else RUN_JOB
    s.enqueue(workflow, run.id, workflow_id=run.workflow_id)


def cancel(services: Services, run_id: str) -> Run:
    """Cancel an active run, or a night with all its runs; what was applied stays applied.

    Raises:
        UsageError: there is no such run, or it has ended.

    """
    run = services.history.get(run_id)
    if not run.is_active:
        raise UsageError(
            f"Run {run.id[:8]} of {run.job} is {run.state}; there is nothing to cancel."
        )
    affected = [run, *(child for child in services.history.children(run.id) if child.is_active)]
    with client(services.settings) as dbos:
        dbos.cancel_workflows([r.workflow_id for r in affected], cancel_children=True)
    for r in affected:
        # A step that is in flight is stopped by its fence as soon as the run has ended.
        start_runs(services, end.end_run(services, r.id, RunState.CANCELLED, CANCELLED))
    return services.history.get(run.id)


def resume(services: Services, run_id: str) -> Run:
    """Carry out a cancelled run again, as of today; it writes only what is left.

    Raises:
        UsageError: there is no such run, it was not cancelled, it is a night, or a later run of the
            job has succeeded.
        AlreadyRunningError: another run of the job is active.

    """
    run = services.history.get(run_id)
    if run.job == NIGHT:
        raise UsageError(
            "A night cannot be resumed. Start a new one (`tis-sync night`); it writes only what is "
            "left."
        )
    later = services.history.last_success(run.job)
    if later is not None and later.created_at > run.created_at:
        raise UsageError(
            f"Run {run.id[:8]} of {run.job} cannot be resumed: run {later.id[:8]} has succeeded "
            f"since. Start a new one: `tis-sync run {run.job}`."
        )
    given = run.options.date is not None
    as_of = run.as_of if given else days_of(services, job_named(run.job))
    run = services.history.reopen(run.id, as_of)
    start(services, run)
    return run


def recover_runs(services: Services) -> None:
    """Queue runs that were requested but never queued; end runs whose workflow has ended.

    A process that dies between two statements can leave either behind. A run that cannot be
    recovered does not keep the others from it.

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
    elif status.status not in UNFINISHED:
        state = RunState.CANCELLED if status.status == "CANCELLED" else RunState.FAILED
        error = f"its workflow ended with {status.status} before the run did"
        start_runs(services, end.end_run(services, run.id, state, error))
    elif is_outdated(services, status):
        with client(services.settings) as dbos:
            dbos.cancel_workflows([run.workflow_id], cancel_children=True)
        start_runs(services, end.end_run(services, run.id, RunState.FAILED, OUTDATED))


def is_outdated(services: Services, status: WorkflowStatus) -> bool:
    """Whether an unfinished workflow is of an earlier version, so that no worker resumes it."""
    version = status.app_version
    if version is None or (version.isdigit() and int(version) >= int(WORKFLOW_VERSION)):
        return False
    return status.executor_id not in services.workers.alive(all_processes=True)


RUN_JOB = Workflow("tis_sync.run_job", run_job, RUNS_QUEUE)
RUN_NIGHT = Workflow("tis_sync.run_night", run_night, RUNS_QUEUE)
RUN_SCHEDULED = Workflow("tis_sync.run_scheduled", run_scheduled, RUNS_QUEUE)
PLAN_PARTITION = Workflow("tis_sync.plan_partition", plan_partition, PARTITIONS_QUEUE)
APPLY_PARTITION = Workflow("tis_sync.apply_partition", apply_partition, PARTITIONS_QUEUE)
FILL_PARTITION = Workflow("tis_sync.fill_partition", fill_partition, PARTITIONS_QUEUE)
WORKFLOWS = (RUN_JOB, RUN_NIGHT, RUN_SCHEDULED, PLAN_PARTITION, APPLY_PARTITION, FILL_PARTITION)
