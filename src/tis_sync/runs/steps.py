"""The steps of a run and of a night; each is recorded when it is done, and can be repeated.

Every error leaves a step as a `TisSyncError` with a message for people.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

import sqlalchemy as sa

from tis_sync.alarms.catalogue import FAILED, Severity
from tis_sync.db.named_locks import end_holders
from tis_sync.durable.recorded_step import step
from tis_sync.durable.work import pause
from tis_sync.errors import (
    AlreadyRunningError,
    IncompleteBuildError,
    JavaRunsError,
    PlanOutdatedError,
)
from tis_sync.jobs.base import IndexTarget, Job, TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME, night_order, upstream
from tis_sync.logs import get, run_log
from tis_sync.reconcile.table_apply import replace
from tis_sync.runs import checks, end, partition
from tis_sync.runs.end import build_index, index_spec
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.request import request_run
from tis_sync.runs.run import Phase, Rerun, Run, RunDetail, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.model import KEYS_PER_BUCKET, LiveIndex, Position
from tis_sync.state.liveness import Fence
from tis_sync.tcs import schema, shedlock
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange, key_ranges

TURN_SECONDS = 0.2  # how often a waiting run checks the runs that it waits for
PROLONG_SECONDS = 60.0  # a held lock of the Java service is prolonged this often


class Mode(Enum):
    """How a run brings its target to the desired state."""

    TABLE = "apply the difference to the table"
    REPLACE = "replace the whole table in one transaction"
    IN_PLACE = "apply the difference to the index that is live"
    BUILD = "build a new index and publish it"
    COUNT = "count what a new index would contain (dry run)"


class Decision(Enum):
    """What a plan leads to."""

    NOTHING = "write nothing"
    APPLY = "apply the plan"
    BUILD = "rebuild the index, because too much of it differs"


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


@step
def prepare(s: Services, run_id: str) -> Prepared:
    """Check everything that the run needs, take the Java service's lock, and cut partitions.

    Raises:
        UnreachableError, SchemaError, JavaRunsError: something that the run needs is not available.

    """
    run = s.history.get(run_id)
    job = JOB_BY_NAME[run.job]
    s.history.enter_phase(run_id, Phase.CHECK, s.clock())
    s.losses.forget(run_id)  # those of an earlier attempt
    with run_log(run_id) as log:
        tcs = s.tcs()
        schema.require(tcs, job.needed())
        _hold_java_lock(s, run)
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


@step
def plan_partition(s: Services, run_id: str, keys: KeyRange, index: str | None) -> PartitionResult:
    """Plan one partition."""
    with _working(s, run_id) as (run, _):
        result = partition.plan(s, run, keys, index)
    s.history.partition_done(run_id)
    return result


@step
def apply_partition(s: Services, run_id: str, keys: KeyRange, index: str | None) -> int:
    """Apply the plan of one partition.

    Returns:
        The number of documents that the search server refused.

    Raises:
        HeldError: the plan was made again, and the guard objects to the new one.

    """
    with _working(s, run_id) as (run, fence):
        refused = partition.apply(s, run, keys, index, fence)
    s.history.partition_done(run_id)
    return refused


@step
def fill_partition(s: Services, run_id: str, keys: KeyRange, index: str) -> PartitionResult:
    """Write the documents of one partition into a new index."""
    with _working(s, run_id) as (run, fence):
        result = partition.fill(s, run, keys, index, fence)
    s.history.partition_done(run_id)
    return result


@contextmanager
def _working(s: Services, run_id: str) -> Iterator[tuple[Run, Fence]]:
    """Begin work on a partition, also when the run was resumed by another worker.

    Yields:
        The run, and the fence that the work calls before each change.

    """
    fence = s.fence(run_id)
    fence()
    with run_log(run_id), s.partition_slots:
        run = s.history.get(run_id)
        _hold_java_lock(s, run)
        yield run, fence


@step
def enter(s: Services, run_id: str, phase: Phase, partitions: int) -> None:
    """Record that the run enters a phase with this number of partitions."""
    s.history.enter_phase(run_id, phase, s.clock(), partitions)
    with run_log(run_id) as log:
        log.info(phase, partitions=partitions)


@step
def judge(s: Services, run_id: str, planned: list[PartitionResult], mode: Mode) -> Decision:
    """Add up the plans, record the totals, and decide what to do.

    Raises:
        HeldError: the guard objects, and the run was not approved.

    """
    run = s.history.get(run_id)
    total = sum(planned, PartitionResult())
    size = total.existing + total.added - total.removed
    is_index = isinstance(JOB_BY_NAME[run.job].target, IndexTarget)
    shrinkage = max(0, total.existing - size) if is_index else 0
    detail = RunDetail(duplicates=total.duplicates, shrinkage=shrinkage)
    if run.options.dry_run:
        detail = run.detail  # the partitions have added their samples
    s.history.note(
        run_id,
        considered=total.considered,
        existing=total.existing,
        added=total.added,
        changed=total.changed,
        removed=total.removed + total.duplicates,
        set_aside=total.set_aside,
        size=size,
        detail=detail,
    )
    checks.check_set_aside(s, run, total.set_aside)
    if run.options.dry_run:
        return Decision.NOTHING
    checks.check_guard(s, run, total.existing, total.lost)
    if is_index:
        checks.check_shrinkage(s, run, total.existing, shrinkage)
        checks.check_size(s, run, size)
    if not total.writes:
        return Decision.NOTHING
    differing = total.writes / max(1, total.existing)
    if mode == Mode.IN_PLACE and differing > s.settings.rebuild_share:
        return Decision.BUILD
    return Decision.APPLY


@step
def begin_build(s: Services, run_id: str) -> str:
    """Create the index of this attempt's build, or find it; drop those of earlier attempts.

    Returns:
        The name of the index; readers do not see it yet.

    """
    run = s.history.get(run_id)
    s.history.expect_cleanup(run_id, needed=True)
    for build in run.builds[:-1]:
        s.search().drop(build_index(run, build))
    return s.search().begin(index_spec(run), run.builds[-1])


@step
def publish(
    s: Services, run_id: str, index: str, filled: list[PartitionResult], position: Position
) -> None:
    """Compare a finished index with its source and its usual size, and make it live.

    What others wrote during the build went to the previous index. Then the run is followed by
    another one, which compares the new index with what TCS contains by then.

    Args:
        s: settings, clock and servers.
        run_id: the run.
        index: the finished index.
        filled: the results of its partitions.
        position: how far the live index was written before the run read anything.

    Raises:
        IncompleteBuildError: the index does not contain exactly the documents that were sent.
        HeldError: the index would shrink more than the guard allows, and the run was not approved.

    """
    fence = s.fence(run_id)
    run = s.history.get(run_id)
    spec = index_spec(run)
    s.history.enter_phase(run_id, Phase.PUBLISH, s.clock())
    total = sum(filled, PartitionResult())
    size = s.search().refresh(index)
    s.history.note(
        run_id,
        considered=total.considered,
        added=size,
        changed=0,
        removed=0,
        set_aside=total.set_aside,
        size=size,
    )
    if size != total.added:
        raise IncompleteBuildError(
            f"The new index {index} contains {size:,} of {total.added:,} documents. It was not "
            "published; the old index is still in use."
        )
    checks.check_set_aside(s, run, total.set_aside)
    live = s.search().live(spec)
    if live is not None and live.name != index:
        existing = live.own_documents
        shrinkage = max(0, existing - size)
        s.history.note(run_id, existing=existing, detail=RunDetail(shrinkage=shrinkage))
        checks.check_shrinkage(s, run, existing, shrinkage)
    checks.check_size(s, run, size)
    fence()
    s.search().publish(spec, index)
    before = set() if live is None else set(live.names) - {index}
    if before != set(position) or s.search().position(list(position)) != position:
        _run_again(s, run, "the previous index was written to during the build")
    with run_log(run_id) as log:
        log.info("published", index=index, documents=size)


@step
def settle(s: Services, run_id: str, index: str | None, refused: int, position: Position) -> None:
    """Make changes in place visible, remove foreign documents, and count refused documents.

    A foreign document that is older than everything the run has read can go, because the run has
    written what TCS contains instead. A newer one comes from an edit during the run: then the run
    is followed by another one.

    Args:
        s: settings, clock and servers.
        run_id: the run.
        index: the index that was changed in place. None: the target is a table.
        refused: the number of documents that the server refused.
        position: how far the index was written before the run read anything.

    """
    if index is not None:
        s.search().refresh(index)
        _remove_foreign(s, s.history.get(run_id), index, position)
    if refused:
        run = s.history.get(run_id)
        set_aside = (run.set_aside or 0) + refused
        s.history.note(run_id, set_aside=set_aside)
        checks.check_set_aside(s, run, set_aside)


@step
def replace_table(s: Services, run_id: str, ranges: list[KeyRange]) -> None:
    """Replace a whole table in one transaction.

    Raises:
        HeldError: the guard objects to what the table would lose, and the run was not approved.

    """
    fence = s.fence(run_id)
    run = s.history.get(run_id)
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, TableTarget)
    s.history.enter_phase(run_id, Phase.REPLACE, s.clock(), len(ranges))
    _hold_java_lock(s, run)
    locks = partition.lock_names(s, target, ALL_KEYS)
    end_holders(s.tcs(), locks)
    desired = [partition.desired_rows(s, run, keys) for keys in ranges]
    total = sum((rows.judged for rows in desired), PartitionResult())
    count = sum(rows.frame.height for rows in desired)
    s.history.note(
        run_id,
        considered=count,
        existing=total.existing,
        added=count,
        changed=0,
        removed=total.existing + total.duplicates,
        set_aside=0,
        size=count,
    )
    checks.check_guard(s, run, total.existing, total.lost)
    replace(s.tcs(), target.spec, [rows.frame for rows in desired], fence, locks[0])


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
    night = s.history.get(night_id)
    s.history.begin(night_id, s.clock())
    requested = {run.job for run in s.history.children(night_id)}
    for job in night_order():
        while job.name not in requested and not _is_requested(s, night, job):
            pass  # its active run has just ended: try again
    return [run.id for run in s.history.children(night_id)]


def _is_requested(s: Services, night: Run, job: Job) -> bool:
    approve = night.options.approve
    try:
        request_run(
            s,
            job,
            trigger=Trigger.NIGHT,
            requested_by=night.requested_by,
            options=RunOptions(approve=approve),
            parent=night.id,
        )
    except AlreadyRunningError as error:
        rerun = Rerun(Trigger.NIGHT, night.requested_by, night.id, approve)
        return error.run_id is not None and s.history.request_rerun(error.run_id, rerun)
    return True


def _remove_foreign(s: Services, run: Run, index: str, position: Position) -> None:
    """Remove the foreign documents that were in the index before the run."""
    search = s.search()
    if search.foreign(index).is_empty():
        return
    old = search.foreign(index, position.get(index, []))
    s.fence(run.id)()
    with suppress(PlanOutdatedError):  # somebody has just changed or deleted some of them
        search.write(index, [], old)
    search.refresh(index)
    with run_log(run.id) as log:
        log.info("foreign documents removed", index=index, documents=old.height)
    if not search.foreign(index).is_empty():
        _run_again(s, run, "the index was written to during the run")


def _run_again(s: Services, run: Run, reason: str) -> None:
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


def _hold_java_lock(s: Services, run: Run) -> None:
    """Take or prolong the job's lock in TCS's table `shedlock` while the Java service is in use.

    Each step calls this, because a resumed run repeats no step that is done.

    Raises:
        JavaRunsError: the Java service holds the lock.

    """
    if not s.settings.java_shedlock or run.options.dry_run:
        return
    job = JOB_BY_NAME[run.job]
    longest = timedelta(minutes=s.settings.shedlock_minutes)
    s.history.expect_cleanup(run.id, needed=True)
    holder = shedlock.take(s.tcs(), job.lock_name, run.lock_owner, s.clock(), longest)
    if holder is not None:
        name, until = holder
        raise JavaRunsError(
            f"Already running: {job.name} in the Java service: {name} holds its lock "
            f"{job.lock_name} until {until:%Y-%m-%d %H:%M:%S} UTC."
        )


def prolong_java_locks(s: Services) -> None:
    """Prolong the locks that running runs hold, so that they outlast a long step."""
    if not s.settings.java_shedlock:
        return
    longest = timedelta(minutes=s.settings.shedlock_minutes)
    margin = timedelta(seconds=min(PROLONG_SECONDS, longest.total_seconds() / 2))
    for run in s.history.all_active():
        if run.state == RunState.RUNNING and run.job in JOB_BY_NAME:
            lock = JOB_BY_NAME[run.job].lock_name
            shedlock.prolong(s.tcs(), lock, run.lock_owner, s.clock(), longest, margin)
