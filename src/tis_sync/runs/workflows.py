"""A run as a durable workflow: its steps are recorded, so that after a crash it goes on.

A workflow takes the same way when it is run again; everything that looks at the world is a step.

    run_job:    wait for upstream -> prepare -> plan -> judge
                -> apply, or fill and publish -> finish -> follow-ups
                (planning, applying, filling: a queue item a partition, where there are several)
    run_night:  ask for every job at once, each waits for its upstream jobs; end when all have
"""

from collections.abc import Callable
from typing import TypeVar

from dbos import DBOS, SetWorkflowID

from tis_sync.errors import (
    DeliveryError,
    HeldError,
    LockedError,
    TisSyncError,
    UnreachableError,
)
from tis_sync.runs import night, steps
from tis_sync.runs.parts import Part
from tis_sync.runs.run import State
from tis_sync.runs.steps import Keys

# Workflows of this form can go on where those of another left off. To be raised by hand when the
# order of a workflow's steps changes in a way that `DBOS.patch` cannot bridge: DBOS then leaves
# older unfinished workflows alone.
WORKFLOW_VERSION = "1"
RUNS_QUEUE = "tis_sync_runs"
PARTS_QUEUE = "tis_sync_parts"
RESULT_POLL_SECONDS = 0.1  # how often a run looks for its partitions' results
Done = TypeVar("Done")
Index = TypeVar("Index", str, None, str | None)
RETRY_SECONDS = (60, 120, 300, 600, 1800, 1800, 3600, 3600)  # waits of a run nobody watches


@DBOS.workflow(name="tis_sync.run_job")
def run_job(run_id: str) -> str:
    """Carry out one run, whatever it takes; returns the state in which it ended."""
    attempt = 0
    while True:
        try:
            blocked = steps.wait_for_turn(run_id)
            if blocked is not None:
                return _end(run_id, "cancelled", blocked)
            _carry_out(run_id)
            return _end(run_id, "succeeded", None)
        except HeldError as error:
            return _end(run_id, "held", str(error))
        except (UnreachableError, DeliveryError, LockedError) as error:
            if attempt == len(RETRY_SECONDS) or not steps.is_unattended(run_id):
                return _end(run_id, "failed", str(error))
            steps.note_waiting(run_id, str(error), RETRY_SECONDS[attempt])
            DBOS.sleep(RETRY_SECONDS[attempt])
            attempt += 1
        except TisSyncError as error:
            return _end(run_id, "failed", str(error))


def _carry_out(run_id: str) -> None:
    """Make the job's product right.

    Raises:
        TisSyncError: of any kind; nothing half-done is seen by readers.

    """
    prepared = steps.prepare(run_id)
    ranges, mode, index = prepared["ranges"], prepared["mode"], prepared["index"]
    if mode == "replace":
        steps.replace_table(run_id, ranges)
        return
    if mode != "build":
        steps.enter(run_id, "plan", len(ranges))
        planned = _each(steps.plan_partition, plan_part, ranges, run_id, index)
        decision = steps.judge(run_id, planned, mode)["decision"]
        if decision == "nothing":
            return
        if decision == "apply":
            busy = [k for k, part in zip(ranges, planned, strict=True) if part.writes]
            steps.enter(run_id, "apply", len(busy))
            refused = _each(steps.apply_partition, apply_part, busy, run_id, index)
            steps.settle(run_id, index, sum(refused))
            return
    building = steps.begin_build(run_id)
    steps.enter(run_id, "fill", len(ranges))
    filled = _each(steps.fill_partition, fill_part, ranges, run_id, building)
    steps.publish(run_id, building, filled)


def _each(
    step: Callable[[str, Keys, Index], Done],
    part: Callable[[str, Keys, Index], Done],
    ranges: list[Keys],
    run_id: str,
    index: Index,
) -> list[Done]:
    """Do a step for every partition: several as queue items, that any worker may take."""
    # Nobody to share with: no hand-over, which takes a fifth of a second. (The patch is for runs
    # that an older version of this program began: they go on as they began.)
    if len(ranges) == 1 and DBOS.patch("a single partition without a queue"):
        return [step(run_id, ranges[0], index)]
    handles = [DBOS.enqueue_workflow(PARTS_QUEUE, part, run_id, keys, index) for keys in ranges]
    return [handle.get_result(polling_interval_sec=RESULT_POLL_SECONDS) for handle in handles]


def _end(run_id: str, state: State, error: str | None) -> str:
    start(steps.finish(run_id, state, error))
    return state


@DBOS.workflow(name="tis_sync.plan_part")
def plan_part(run_id: str, keys: Keys, index: str | None) -> Part:
    """Plan one partition."""
    return steps.plan_partition(run_id, keys, index)


@DBOS.workflow(name="tis_sync.apply_part")
def apply_part(run_id: str, keys: Keys, index: str | None) -> int:
    """Apply one partition's plan."""
    return steps.apply_partition(run_id, keys, index)


@DBOS.workflow(name="tis_sync.fill_part")
def fill_part(run_id: str, keys: Keys, index: str) -> Part:
    """Write one partition's documents into a new index."""
    return steps.fill_partition(run_id, keys, index)


@DBOS.workflow(name="tis_sync.run_night")
def run_night(night_id: str) -> str:
    """Run every job once, in dependency order; returns the state in which the night ended."""
    runs = night.ask_for_night(night_id)
    start(runs)
    return night.finish_night(night_id, runs)


def start(run_ids: list[str]) -> None:
    """Queue runs that were asked for; one that is queued or under way already is left alone."""
    for run_id in run_ids:
        with SetWorkflowID(run_id):
            DBOS.enqueue_workflow(RUNS_QUEUE, run_job, run_id)


def start_night(night_id: str) -> None:
    """Queue a night that was asked for."""
    with SetWorkflowID(night_id):
        DBOS.enqueue_workflow(RUNS_QUEUE, run_night, night_id)
