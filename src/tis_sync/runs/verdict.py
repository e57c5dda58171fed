"""May a plan, or a finished index, go ahead? The guard stops; the unusual raises an alarm."""

from tis_sync.errors import HeldError
from tis_sync.jobs.base import TableProduct
from tis_sync.jobs.catalogue import BY_NAME
from tis_sync.reconcile.guard import Guard
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.runs.unusual import RUNS_COMPARED, unusual_size


def guard(s: Services, run: Run, existing: int, removed: int, emptied: int) -> None:
    """Raise `HeldError` where a run would take too much away, and was not approved."""
    limits = Guard(s.settings.guard_share, s.settings.guard_rows)
    product = BY_NAME[run.job].product
    what = product.target.table.name if isinstance(product, TableProduct) else product.spec.alias
    objection = limits.objection(existing=existing, removed=removed, emptied=emptied, what=what)
    if objection is not None and not run.options.approve:
        raise HeldError(f"{run.job} {objection}: `tis-sync run {run.job} --approve`.")


def mind_size(s: Services, run: Run, size: int) -> None:
    """Alarm when an index is about to have an unusual size; nothing is stopped."""
    before = [r.size for r in s.history.successes(run.job, RUNS_COMPARED) if r.size is not None]
    found = unusual_size(size, before, s.settings.unusual_size_share)
    if found is None:
        s.alarms.close("size", run.job, s.clock())
        return
    s.alarms.raise_(
        "size",
        run.job,
        f"The index is about to have {found}. If the source is right, nothing is to be done; "
        f"else mend it and `tis-sync run {run.job}`.",
        s.clock(),
        run.id,
    )


def mind_set_aside(s: Services, run: Run, count: int) -> None:
    """Alarm when many records could not be used."""
    if count <= s.settings.set_aside_limit:
        s.alarms.close("set aside", run.job, s.clock())
        return
    s.alarms.raise_(
        "set aside",
        run.job,
        f"{count:,} records could not be used; `tis-sync show {run.id[:8]}` names them.",
        s.clock(),
        run.id,
    )
