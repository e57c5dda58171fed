"""Compare everything that is derived with what it should be, without a run."""

from collections.abc import Collection
from datetime import date

from tests.conftest import TODAY
from tests.world import World
from tis_sync.jobs.base import AsOf, IndexTarget, TableTarget
from tis_sync.jobs.catalogue import JOBS
from tis_sync.reconcile import index_plan
from tis_sync.reconcile.table_plan import difference
from tis_sync.runs.services import Services
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Source


def differences(
    services: Services,
    world: World,
    jobs: Collection[str] | None = None,
    *,
    today: date = TODAY,
) -> dict[str, str]:
    """What is not as after an undisturbed night of a day, by job."""
    wrong: dict[str, str] = {}
    as_of = AsOf.on(today)
    for job in JOBS:
        if jobs is not None and job.name not in jobs:
            continue
        source, target = Source(world.database, today), job.target
        if isinstance(target, TableTarget):
            spec = target.spec
            existing = Read(spec.table, spec.columns, partition_column=spec.partition_column)
            frames = source.load((*target.reads, existing), ALL_KEYS).frames
            plan = difference(
                spec,
                target.desired(frames, as_of),
                frames[spec.table.name].lazy(),
                target.allowed(frames) if target.allowed else None,
            )
            if not plan.is_empty:
                wrong[job.name] = f"{plan.added}{plan.changed}{plan.removed}{plan.duplicates}"
            continue
        assert isinstance(target, IndexTarget)
        views = target.views(source.load(target.reads, ALL_KEYS).frames, as_of).collect()
        live = services.search().live(target.spec)
        if live is None or services.search().refresh(live.name) != views.height:
            wrong[job.name] = f"{live} instead of {views.height} documents"
            continue
        planned = index_plan.difference(services.search(), live.name, views, target.form, ALL_KEYS)
        if not planned.is_empty:
            wrong[job.name] = f"{planned.added}{planned.changed}{planned.removed}"
    return wrong
