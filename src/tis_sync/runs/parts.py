"""The work of one partition: planned, applied or filled; everything that needs frames.

Each function may be called again after a crash, on any machine, and then does no harm: plans are
made from what is there, applied only where it still fits, and documents have stable ids.
Results are small, as DBOS records them.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.errors import PlanOutdatedError
from tis_sync.jobs.base import IndexProduct, TableProduct
from tis_sync.jobs.catalogue import BY_NAME
from tis_sync.reconcile import index as index_plans
from tis_sync.reconcile import table as tables
from tis_sync.reconcile.index import IndexPlan
from tis_sync.reconcile.plan import OLD, Plan, difference
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.services import Services
from tis_sync.runs.workspace import Workspace
from tis_sync.search.documents import encode
from tis_sync.tcs import schema
from tis_sync.tcs.connect import explained
from tis_sync.tcs.read import KeyRange, Read
from tis_sync.tcs.source import SetAside

PLANS_A_PARTITION = 5  # a plan that TCS keeps outdating is made so often before it is reported
SAMPLE_ROWS = 5  # of each kind, shown by a dry run


@dataclass(frozen=True)
class Part:
    """What planning (or filling) a partition found: counts of records, and a few of them.

    Attributes:
        considered: records that should exist.
        existing: records that did, duplicates not counted.
        added, changed, removed, duplicates: what the plan would do.
        emptied: changes that take away a record's last value.
        set_aside: records that could not be used.
        sample: the first records of each kind.

    """

    considered: int = 0
    existing: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    duplicates: int = 0
    emptied: int = 0
    set_aside: int = 0
    sample: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def writes(self) -> int:
        """Records that would be written, of any kind."""
        return self.added + self.changed + self.removed + self.duplicates

    def __add__(self, other: "Part") -> "Part":
        sample = {
            kind: [*self.sample.get(kind, []), *other.sample.get(kind, [])][:SAMPLE_ROWS]
            for kind in {**self.sample, **other.sample}
        }
        counts = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name != "sample"
        }
        return Part(**counts, sample=sample)


def plan(services: Services, run: Run, keys: KeyRange, index: str | None) -> Part:
    """Plan one partition.

    Args:
        services: the servers.
        run: the run.
        keys: the partition.
        index: the concrete index that would be changed in place. None: the job's product is a
            table, or (in a dry run) an index that would be built anew, and then is only counted.

    """
    product = BY_NAME[run.job].product
    made: Plan | IndexPlan
    if isinstance(product, TableProduct):
        made, bad = _plan_table(services, run, product, keys)
        part = _table_part(made, product)
    elif index is None:
        views, bad = _views(services, run, product, keys)
        new = _index_part(_all_new(views, product))
        return replace(
            new, considered=views.height, added=views.height, set_aside=_report(services, run, bad)
        )
    else:
        made, bad = _plan_index(services, run, product, keys, index)
        part = _index_part(made)
    if not run.options.dry_run and not made.is_empty:
        _workspace(services, run).keep(keys, made)
    return replace(part, set_aside=_report(services, run, bad))


def apply(services: Services, run: Run, keys: KeyRange, index: str | None) -> int:
    """Apply one partition's plan; plan again, a few times, where TCS has moved on.

    Args:
        services: the servers.
        run: the run.
        keys: the partition.
        index: the concrete index that is changed in place; None for a table.

    Returns:
        How many documents the search server refused for good.

    Raises:
        PlanOutdatedError: TCS kept changing what was planned.

    """
    product = BY_NAME[run.job].product
    workspace = _workspace(services, run)
    for attempt in range(1, PLANS_A_PARTITION + 1):
        made = workspace.take(keys)
        if isinstance(product, TableProduct):
            if not isinstance(made, Plan):
                made, _ = _plan_table(services, run, product, keys, again=attempt > 1)
            try:
                tables.apply(services.tcs(), product.target, made)
            except PlanOutdatedError as error:
                if attempt == PLANS_A_PARTITION:
                    raise PlanOutdatedError(
                        f"{error}; planned {attempt} times, and TCS changed each time. "
                        f"Run it again when TCS is quieter: `tis-sync run {run.job}`."
                    ) from error
                continue
            return 0
        assert index is not None
        if not isinstance(made, IndexPlan):
            made, _ = _plan_index(services, run, product, keys, index)
        delivery = services.search().write(index, [made.added, made.changed], made.removed)
        return _refused(services, run, delivery.refused)
    raise AssertionError


def fill(services: Services, run: Run, keys: KeyRange, index: str) -> Part:
    """Write the documents of one partition into an index that is being built."""
    product = BY_NAME[run.job].product
    assert isinstance(product, IndexProduct)
    views, bad = _views(services, run, product, keys)
    delivery = services.search().write(index, index_plans.encoded(views, product.form))
    set_aside = _refused(services, run, delivery.refused) + _report(services, run, bad)
    return Part(considered=views.height, added=delivery.written, set_aside=set_aside)


def desired_rows(services: Services, run: Run, keys: KeyRange) -> pl.DataFrame:
    """The records that a table should hold in a partition; those of all bodies, for a rebuild."""
    product = BY_NAME[run.job].product
    assert isinstance(product, TableProduct)
    loaded = _workspace(services, run).source.load(product.reads, keys)
    _report(services, run, loaded.set_aside)
    frames = loaded.frames
    rows = product.desired(frames, run.as_of)
    for other in BY_NAME.values():
        shares = (
            other.name != run.job
            and isinstance(other.product, TableProduct)
            and other.product.target.table is product.target.table
        )
        if shares and isinstance(other.product, TableProduct):
            rows = pl.concat([rows, other.product.desired(frames, run.as_of)])
    fitting, bad = _fitting(services, product, rows.unique().collect())
    _report(services, run, bad)
    return fitting.sort(product.target.key)


def table_size(services: Services, product: TableProduct) -> int:
    """How many records the table holds now."""
    with (
        explained(services.tcs(), name="TCS", setting="TIS_SYNC_TCS_URL"),
        services.tcs().connect() as connection,
    ):
        counted = sa.select(sa.func.count()).select_from(product.target.table)
        return int(connection.scalar(counted) or 0)


def _workspace(services: Services, run: Run) -> Workspace:
    night = run.parent if run.trigger == NIGHT else None
    return services.workspaces.of(run.id, night, services.tcs(), run.as_of.today)


def _plan_table(
    services: Services, run: Run, product: TableProduct, keys: KeyRange, *, again: bool = False
) -> tuple[Plan, list[SetAside]]:
    """Plan a partition; again, as TCS is now, where it has moved on since the first time."""
    target = product.target
    existing = Read(target.table, target.columns, by=target.by)
    reads = (*product.reads, existing)
    loaded = _workspace(services, run).source.load(reads, keys, fresh=again)
    frames = loaded.frames
    wanted, too_long = _fitting(services, product, product.desired(frames, run.as_of).collect())
    allowed = None if product.allowed is None else product.allowed(frames)
    made = difference(target, wanted.lazy(), frames[target.table.name].lazy(), allowed)
    return made, loaded.set_aside + too_long


def _fitting(
    services: Services, product: TableProduct, wanted: pl.DataFrame
) -> tuple[pl.DataFrame, list[SetAside]]:
    """The desired records without those whose values the database's columns cannot hold."""
    if not product.target.values:
        return wanted, []
    limits = schema.text_limits(services.tcs(), product.target.table)
    bad = tables.too_long(wanted, product.target, limits)
    key = pl.col(product.target.key[0]).cast(pl.String)
    return wanted.filter(~key.is_in([record.key for record in bad])), bad


def _views(
    services: Services, run: Run, product: IndexProduct, keys: KeyRange
) -> tuple[pl.DataFrame, list[SetAside]]:
    loaded = _workspace(services, run).source.load(product.reads, keys)
    return product.views(loaded.frames, run.as_of).collect(), loaded.set_aside


def _plan_index(
    services: Services, run: Run, product: IndexProduct, keys: KeyRange, index: str
) -> tuple[IndexPlan, list[SetAside]]:
    views, bad = _views(services, run, product, keys)
    return index_plans.difference(services.search(), index, views, product.form, keys), bad


def _all_new(views: pl.DataFrame, product: IndexProduct) -> IndexPlan:
    """A plan that adds everything; only its first documents are encoded."""
    first = encode(views.head(SAMPLE_ROWS), product.form)
    return IndexPlan(first, first.clear(), [], views.height, 0)


def _table_part(made: Plan, product: TableProduct) -> Part:
    values = product.target.values
    kinds = {
        "added": made.added,
        "changed": made.changed.rename({OLD + v: f"{v} now" for v in values}),
        "removed": made.removed,
        "duplicates": made.duplicates,
    }
    return Part(
        considered=made.considered,
        existing=made.existing,
        added=made.added.height,
        changed=made.changed.height,
        removed=made.removed.height,
        duplicates=made.duplicates.height,
        emptied=made.emptied(values),
        sample={k: f.head(SAMPLE_ROWS).to_dicts() for k, f in kinds.items() if not f.is_empty()},
    )


def _index_part(made: IndexPlan) -> Part:
    kinds = {
        "added": made.added.head(SAMPLE_ROWS).select("id", "body").to_dicts(),
        "changed": made.changed.head(SAMPLE_ROWS).select("id", "body").to_dicts(),
        "removed": [{"id": i} for i in made.removed[:SAMPLE_ROWS]],
    }
    return Part(
        considered=made.considered,
        existing=made.existing,
        added=made.added.height,
        changed=made.changed.height,
        removed=len(made.removed),
        sample={k: rows for k, rows in kinds.items() if rows},
    )


def _report(services: Services, run: Run, records: list[SetAside]) -> int:
    """Keep and count records that could not be used: one record may have several bad values."""
    services.history.add_set_aside(run.id, records)
    return len({(record.table, record.key) for record in records})


def _refused(services: Services, run: Run, refused: list[tuple[str, str]]) -> int:
    records = [
        SetAside("document", document, "content", "", f"was refused: {reason}")
        for document, reason in refused
    ]
    return _report(services, run, records)
