"""The work on one partition: plan it, apply the plan, or fill an index; all that needs frames.

Each function can safely be called again after a crash, on any machine: plans are made from what
exists and only applied where they still fit, and documents have stable ids. Results are small,
because DBOS records them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import polars as pl

from tis_sync.db.named_locks import end_holders
from tis_sync.errors import PlanOutdatedError
from tis_sync.jobs.base import IndexTarget, TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.reconcile import index_plan as index_plans
from tis_sync.reconcile import table_apply
from tis_sync.reconcile.index_plan import IndexPlan
from tis_sync.reconcile.losses import hashes
from tis_sync.reconcile.table_plan import OLD, Plan, difference
from tis_sync.reconcile.workspace import Workspace
from tis_sync.runs import checks
from tis_sync.runs.run import Run, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.documents import encode
from tis_sync.state.liveness import Fence
from tis_sync.tcs import schema
from tis_sync.tcs.fit import SetAside
from tis_sync.tcs.key_ranges import KeyRange
from tis_sync.tcs.read import Read

PLANS_PER_PARTITION = 5  # plans to make before giving up, if TCS keeps changing
SAMPLE_ROWS = 5  # rows of each kind that a dry run shows


@dataclass(frozen=True)
class PartitionResult:
    """The result of planning or filling a partition: counts of records.

    DBOS records it, so it contains no personal data.

    Attributes:
        considered: records that should exist.
        existing: records that exist, without duplicates.
        added, changed, removed: records that the plan adds, changes or removes.
        duplicates: surplus records that it removes: repeated rows of a table, or documents of an
            index that we did not write.
        lost: records that the guard counts (see `Plan.lost`), without those of an approved plan.
        set_aside: records that could not be used.

    """

    considered: int = 0
    existing: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    duplicates: int = 0
    lost: int = 0
    set_aside: int = 0

    @property
    def writes(self) -> int:
        """The number of records that the plan writes, of any kind."""
        return self.added + self.changed + self.removed + self.duplicates

    def __add__(self, other: "PartitionResult") -> "PartitionResult":
        return PartitionResult(
            considered=self.considered + other.considered,
            existing=self.existing + other.existing,
            added=self.added + other.added,
            changed=self.changed + other.changed,
            removed=self.removed + other.removed,
            duplicates=self.duplicates + other.duplicates,
            lost=self.lost + other.lost,
            set_aside=self.set_aside + other.set_aside,
        )


def plan(s: Services, run: Run, keys: KeyRange, index: str | None) -> PartitionResult:
    """Plan one partition.

    Args:
        s: settings, clock and servers.
        run: the run.
        keys: the partition.
        index: the concrete index that is changed in place. None: the target is a table, or (in a
            dry run) an index that would be rebuilt, whose documents are only counted.

    """
    target = JOB_BY_NAME[run.job].target
    planned: Plan | IndexPlan
    if isinstance(target, TableTarget):
        planned, unfit = _plan_table(s, run, target, keys)
        result = _table_result(planned)
    elif index is None:
        views, unfit = _views(s, run, target, keys)
        _add_sample(s, run, _all_new(views, target))
        return PartitionResult(
            considered=views.height, added=views.height, set_aside=_report(s, run, unfit)
        )
    else:
        planned, unfit = _plan_index(s, run, target, keys, index)
        result = _index_result(planned)
    lost, unapproved = _lost(s, run, planned)
    if run.options.dry_run:
        _add_sample(s, run, planned)
    elif not planned.is_empty:
        _workspace(s, run).keep(keys, planned)
        if not lost.is_empty():
            s.losses.record(run.id, keys, lost, unapproved)
    return replace(result, lost=unapproved, set_aside=_report(s, run, unfit))


def apply(s: Services, run: Run, keys: KeyRange, index: str | None, fence: Fence) -> int:
    """Apply the plan of one partition; if its target has changed since, plan again a few times.

    A plan that was made again is judged again, so that nothing is lost that the guard has not seen.

    Args:
        s: settings, clock and servers.
        run: the run.
        keys: the partition.
        index: the concrete index that is changed in place. None: the target is a table.
        fence: called before each change.

    Returns:
        The number of documents that the search server refused permanently.

    Raises:
        PlanOutdatedError: TCS, or somebody who writes to the index, kept changing the target.
        HeldError: a plan was made again, and the guard objects to it.

    """
    target = JOB_BY_NAME[run.job].target
    workspace = _workspace(s, run)
    for attempt in range(1, PLANS_PER_PARTITION + 1):
        planned = workspace.take(keys)
        again = attempt > 1
        try:
            if isinstance(target, TableTarget):
                if not isinstance(planned, Plan):
                    planned, _ = _plan_table(s, run, target, keys, again=again)
                    checks.check_plan_made_again(s, run, keys, *_lost(s, run, planned))
                locks = lock_names(s, target, keys)
                table_apply.apply(s.tcs(), target.spec, planned, fence, locks)
                return 0
            assert index is not None
            if not isinstance(planned, IndexPlan):
                planned, _ = _plan_index(s, run, target, keys, index, again=again)
                checks.check_plan_made_again(s, run, keys, *_lost(s, run, planned))
            documents = _fenced(fence, iter([planned.added, planned.changed]))
            return _refused(s, run, s.search().write(index, documents, planned.removed).refused)
        except PlanOutdatedError as error:
            if attempt == PLANS_PER_PARTITION:
                changed = "TCS" if index is None else f"TCS or the index {index}"
                raise PlanOutdatedError(
                    f"{error}. The plan was made {attempt} times, and {changed} changed each time. "
                    f"Run the job again when TCS is less busy: `tis-sync run {run.job}`."
                ) from error
    raise AssertionError


def fill(s: Services, run: Run, keys: KeyRange, index: str, fence: Fence) -> PartitionResult:
    """Write the documents of one partition into the index that is being built."""
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, IndexTarget)
    views, unfit = _views(s, run, target, keys)
    documents = _fenced(fence, index_plans.encoded(views, target.form))
    delivery = s.search().write(index, documents)
    set_aside = _refused(s, run, delivery.refused) + _report(s, run, unfit)
    return PartitionResult(considered=views.height, added=delivery.written, set_aside=set_aside)


@dataclass(frozen=True)
class DesiredRows:
    """What a table should contain in a partition: the records, and how they were judged."""

    frame: pl.DataFrame
    judged: PartitionResult


def desired_rows(s: Services, run: Run, keys: KeyRange) -> DesiredRows:
    """The records that a table should contain in a partition, from all its jobs, for a rebuild."""
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, TableTarget)
    spec = target.spec
    existing = Read(spec.table, spec.columns, partition_column=spec.partition_column)
    loaded = _workspace(s, run).source.load((*target.reads, existing), keys)
    frames = loaded.frames
    rows = target.desired(frames, run.as_of)
    for other in JOB_BY_NAME.values():
        shares = (
            other.name != run.job
            and isinstance(other.target, TableTarget)
            and other.target.spec.table is spec.table
        )
        if shares and isinstance(other.target, TableTarget):
            rows = pl.concat([rows, other.target.desired(frames, run.as_of)])
    fitting, unfit = _fitting(s, target, rows.unique().collect())
    set_aside = _report(s, run, loaded.set_aside + unfit)
    planned = difference(spec, fitting.lazy(), frames[spec.table.name].lazy())
    lost, unapproved = _lost(s, run, planned)
    s.losses.record(run.id, keys, lost, unapproved)
    judged = replace(_table_result(planned), lost=unapproved, set_aside=set_aside)
    return DesiredRows(fitting.sort(spec.key), judged)


def lock_names(s: Services, target: TableTarget, keys: KeyRange) -> list[str]:
    """The names of the locks that transactions hold while they write a partition.

    They are hashes, because MySQL's names have at most 64 characters and are shared by all
    databases of a server.
    """
    text = f"{s.tcs().engine.url.database} {target.spec.table.name} {keys.low}"
    name = f"tis-sync {sha256(text.encode()).hexdigest()[:40]}"
    return [f"{name} {number}" for number in range(table_apply.PARTS_AT_ONCE)]


def _lost(s: Services, run: Run, planned: Plan | IndexPlan) -> tuple[pl.Series, int]:
    """Hashes of the keys that a plan loses, and how many of them no approval covers."""
    if isinstance(planned, Plan):
        target = JOB_BY_NAME[run.job].target
        assert isinstance(target, TableTarget)
        lost = hashes(planned.lost(target.spec))
    else:
        lost = hashes(planned.lost_keys.to_frame())
    return lost, s.losses.unapproved(lost, run.options.approved_run)


def _fenced(fence: Fence, documents: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Documents for an index; the fence is called before each frame is sent."""
    for frame in documents:
        fence()
        yield frame


def _workspace(s: Services, run: Run) -> Workspace:
    """What this process keeps for the run.

    The reads that the runs of a night share can be older than the run. An index job must not use
    them: it would undo what TCS has written to the index in between.
    """
    is_index = isinstance(JOB_BY_NAME[run.job].target, IndexTarget)
    night = run.parent if run.trigger == Trigger.NIGHT and not is_index else None
    return s.workspaces.of(run.id, night, s.tcs(), run.as_of.today)


def _plan_table(
    s: Services, run: Run, target: TableTarget, keys: KeyRange, *, again: bool = False
) -> tuple[Plan, list[SetAside]]:
    """Plan a partition; with `again`, read TCS again because it has changed since the last plan.

    A worker that was taken over may be about to commit what it had planned. So its transaction is
    ended first.
    """
    spec = target.spec
    if not run.options.dry_run:
        end_holders(s.tcs(), lock_names(s, target, keys))
    existing = Read(spec.table, spec.columns, partition_column=spec.partition_column)
    reads = (*target.reads, existing)
    loaded = _workspace(s, run).source.load(reads, keys, fresh=again)
    frames = loaded.frames
    desired, too_long = _fitting(s, target, target.desired(frames, run.as_of).collect())
    allowed = None if target.allowed is None else target.allowed(frames)
    planned = difference(spec, desired.lazy(), frames[spec.table.name].lazy(), allowed)
    return planned, loaded.set_aside + too_long


def _fitting(
    s: Services, target: TableTarget, desired: pl.DataFrame
) -> tuple[pl.DataFrame, list[SetAside]]:
    """The desired records, without those whose values are too long for their columns."""
    if not target.spec.values:
        return desired, []
    limits = schema.text_limits(s.tcs(), target.spec.table)
    unfit = table_apply.too_long(desired, target.spec, limits)
    key = pl.col(target.spec.key[0]).cast(pl.String)
    return desired.filter(~key.is_in([record.key for record in unfit])), unfit


def _views(
    s: Services, run: Run, target: IndexTarget, keys: KeyRange, *, again: bool = False
) -> tuple[pl.DataFrame, list[SetAside]]:
    loaded = _workspace(s, run).source.load(target.reads, keys, fresh=again)
    return target.views(loaded.frames, run.as_of).collect(), loaded.set_aside


def _plan_index(
    s: Services, run: Run, target: IndexTarget, keys: KeyRange, index: str, *, again: bool = False
) -> tuple[IndexPlan, list[SetAside]]:
    """Plan a partition; with `again`, read TCS again, because the index no longer fits the plan."""
    if again:
        s.search().refresh(index)
    views, unfit = _views(s, run, target, keys, again=again)
    return index_plans.difference(s.search(), index, views, target.form, keys), unfit


def _all_new(views: pl.DataFrame, target: IndexTarget) -> IndexPlan:
    """A plan that adds everything; only its first documents are encoded."""
    first = encode(views.head(SAMPLE_ROWS), target.form)
    return IndexPlan(first, first.clear(), views.height, 0)


def _table_result(planned: Plan) -> PartitionResult:
    return PartitionResult(
        considered=planned.considered,
        existing=planned.existing,
        added=planned.added.height,
        changed=planned.changed.height,
        removed=planned.removed.height,
        duplicates=planned.duplicates.height,
    )


def _index_result(planned: IndexPlan) -> PartitionResult:
    return PartitionResult(
        considered=planned.considered,
        existing=planned.existing,
        added=planned.added.height,
        changed=planned.changed.height,
        removed=planned.removed.height,
        duplicates=planned.foreign.height,
    )


def _add_sample(s: Services, run: Run, planned: Plan | IndexPlan) -> None:
    """Keep the first records of each kind in the state database.

    They may contain personal data, and what a step returns goes to DBOS's tables.
    """
    sample = _table_sample(planned) if isinstance(planned, Plan) else _index_sample(planned)
    filled = {kind: rows for kind, rows in sample.items() if rows}
    if filled:
        s.history.add_sample(run.id, filled, SAMPLE_ROWS)


def _table_sample(planned: Plan) -> dict[str, list[dict[str, Any]]]:
    old = [name for name in planned.changed.columns if name.startswith(OLD)]
    kinds = {
        "added": planned.added,
        "changed": planned.changed.rename({o: f"{o.removeprefix(OLD)} now" for o in old}),
        "removed": planned.removed,
        "duplicates": planned.duplicates,
    }
    return {kind: frame.head(SAMPLE_ROWS).to_dicts() for kind, frame in kinds.items()}


def _index_sample(planned: IndexPlan) -> dict[str, list[dict[str, Any]]]:
    kinds = {
        "added": planned.added.select("id", "body"),
        "changed": planned.changed.select("id", "body"),
        "removed": planned.removed.select("id"),
        "duplicates": planned.foreign.select("id"),
    }
    return {kind: frame.head(SAMPLE_ROWS).to_dicts() for kind, frame in kinds.items()}


def _report(s: Services, run: Run, records: list[SetAside]) -> int:
    """Name and count records that could not be used; one record may have several bad values."""
    s.history.add_set_aside(run.id, records)
    return len({(record.table, record.key) for record in records})


def _refused(s: Services, run: Run, refused: list[tuple[str, str]]) -> int:
    records = [
        SetAside("document", document, "content", "", f"was refused: {reason}")
        for document, reason in refused
    ]
    return _report(s, run, records)
