"""Before a run reads anything: check what it needs, and decide how it will work."""

from dataclasses import dataclass, field
from enum import Enum

import sqlalchemy as sa

from tis_sync.durable.recorded_step import step
from tis_sync.execution.job_lock import hold_java_lock
from tis_sync.jobs.base import IndexTarget, Job, TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.logs import run_log
from tis_sync.runs.run import Phase, Run
from tis_sync.runs.services import Services
from tis_sync.search.model import KEYS_PER_BUCKET, LiveIndex, Position
from tis_sync.tcs import schema
from tis_sync.tcs.key_ranges import KeyRange, key_ranges


class Mode(Enum):
    """How a run brings its target to the desired state."""

    TABLE = "apply the difference to the table"
    REPLACE = "replace the whole table in one transaction"
    IN_PLACE = "apply the difference to the index that is live"
    BUILD = "build a new index and publish it"
    COUNT = "count what a new index would contain (dry run)"


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`.

    Attributes:
        ranges: the partitions.
        mode: how the run brings its target to the desired state.
        index: the live index, if it is changed in place.
        position: how far the live index was written before the run read anything.

    """

    ranges: list[KeyRange]
    mode: Mode
    index: str | None
    position: Position = field(default_factory=dict)


@step
def prepare(s: Services, run_id: str, attempt: int) -> Prepared:
    """Check everything that the run needs, take the Java service's lock, and cut partitions.

    Raises:
        UnreachableError, SchemaError, JavaRunsError: something that the run needs is not available.

    """
    s.fence(run_id, attempt)()
    run = s.history.get(run_id)
    job = JOB_BY_NAME[run.job]
    s.history.enter_phase(run_id, Phase.CHECK, s.clock())
    s.losses.forget(run_id)  # those of an earlier attempt
    with run_log(run_id) as log:
        tcs = s.tcs()
        schema.require(tcs, job.needed())
        hold_java_lock(s, run)
        # What was read before is older than the position of the index.
        s.workspaces.drop(run_id)
        mode, live = _mode(s, job, run)
        position = {} if live is None else s.search().position(live.names)
        ranges = key_ranges(
            tcs, _key_columns(job), s.settings.partition_keys, multiple_of=KEYS_PER_BUCKET
        )
        log.info("started", job=job.name, partitions=len(ranges), today=str(run.as_of.today))
    if s.settings.notify_runs and not run.options.dry_run:
        s.notify(f"{job.name} started", f"Run {run.id[:8]}, requested by {run.requested_by}.")
    index = live.name if live is not None and mode == Mode.IN_PLACE else None
    return Prepared(ranges, mode, index, position)


def _mode(s: Services, job: Job, run: Run) -> tuple[Mode, LiveIndex | None]:
    """How the run brings its target to the desired state, and the live index."""
    target = job.target
    if isinstance(target, TableTarget):
        replaces = run.options.rebuild and not run.options.dry_run
        return (Mode.REPLACE if replaces else Mode.TABLE), None
    s.search().check()
    live = s.search().live(target.spec)
    if live is not None and live.fits(target.spec) and not run.options.rebuild:
        s.search().refresh(live.name)
        return Mode.IN_PLACE, live
    return (Mode.COUNT if run.options.dry_run else Mode.BUILD), live


def _key_columns(job: Job) -> list[sa.Column[int]]:
    target = job.target
    if isinstance(target, IndexTarget):
        return [target.partition_column]
    reads = [
        r.partition_column for r in target.reads if r.partition_column is not None and not r.join
    ]
    return [target.spec.partition_column, *reads]
