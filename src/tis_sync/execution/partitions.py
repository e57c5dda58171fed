"""Steps on one partition: plan, apply, fill."""

from collections.abc import Iterator
from contextlib import contextmanager

from tis_sync.durable.recorded_step import step
from tis_sync.execution.job_lock import hold_java_lock
from tis_sync.logs import run_log
from tis_sync.runs import partition
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.state.liveness import Fence
from tis_sync.tcs.key_ranges import KeyRange


@step
def plan_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str | None
) -> PartitionResult:
    """Plan one partition."""
    with _working(s, run_id, attempt) as (run, _):
        result = partition.plan(s, run, keys, index)
    s.history.partition_done(run_id)
    return result


@step
def apply_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str | None
) -> int:
    """Apply the plan of one partition.

    Returns:
        The number of documents that the search server refused.

    Raises:
        HeldError: the plan was made again, and the guard objects to the new one.

    """
    with _working(s, run_id, attempt) as (run, fence):
        refused = partition.apply(s, run, keys, index, fence)
    s.history.partition_done(run_id)
    return refused


@step
def fill_partition(
    s: Services, run_id: str, attempt: int, keys: KeyRange, index: str
) -> PartitionResult:
    """Write the documents of one partition into a new index."""
    with _working(s, run_id, attempt) as (run, fence):
        result = partition.fill(s, run, keys, index, fence)
    s.history.partition_done(run_id)
    return result


@contextmanager
def _working(s: Services, run_id: str, attempt: int) -> Iterator[tuple[Run, Fence]]:
    """Begin work on a partition, also when the run was resumed by another worker.

    Yields:
        The run, and the fence that the work calls before each change.

    Raises:
        RunEndedError: the run has ended, or begun again: then its plans are those of another
            attempt, which are not judged yet.

    """
    fence = s.fence(run_id, attempt)
    with run_log(run_id), s.partition_slots:
        fence()
        run = s.history.get(run_id)
        hold_java_lock(s, run)
        yield run, fence
