"""Judge the figures of a run: what the guard holds, and what is unusual."""

from collections.abc import Sequence
from statistics import median

from tis_sync.alarms.catalogue import SET_ASIDE, UNUSUAL_SIZE
from tis_sync.errors import HeldError
from tis_sync.jobs.base import TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.reconcile.guard import Guard
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services

RUNS_NEEDED = 3  # earlier runs, before anything can be called unusual
RUNS_COMPARED = 10
MIN_SLOW_SECONDS = 60.0  # a shorter run is never called slow


def check_guard(s: Services, run: Run, existing: int, removed: int, emptied: int) -> None:
    """Hold a plan that removes too much, unless the run was approved.

    Raises:
        HeldError: the guard objects; the message says why.

    """
    limits = Guard(s.settings.guard_share, s.settings.guard_rows)
    target = JOB_BY_NAME[run.job].target
    name = target.spec.table.name if isinstance(target, TableTarget) else target.spec.alias
    objection = limits.objection(existing=existing, removed=removed, emptied=emptied, name=name)
    if objection is not None and not run.options.approve:
        raise HeldError(f"{run.job} {objection}. Nothing was written.")


def check_size(s: Services, run: Run, size: int) -> None:
    """Raise an alarm if an index is about to have an unusual size; nothing is stopped."""
    before = [r.size for r in s.history.successes(run.job, RUNS_COMPARED) if r.size is not None]
    found = unusual_size(size, before, s.settings.unusual_size_share)
    if found is None:
        s.alarms.close(UNUSUAL_SIZE, run.job, s.clock())
        return
    details = f"The index is about to contain {found}."
    s.alarms.open(UNUSUAL_SIZE, run.job, details, s.clock(), run_id=run.id)


def check_set_aside(s: Services, run: Run, count: int) -> None:
    """Raise an alarm if there were many records that a run could not use."""
    if count <= s.settings.set_aside_limit:
        s.alarms.close(SET_ASIDE, run.job, s.clock())
        return
    details = f"{count:,} records could not be used."
    s.alarms.open(SET_ASIDE, run.job, details, s.clock(), run_id=run.id, run=run.id[:8])


def unusual_size(size: int, before: Sequence[int], share: float) -> str | None:
    """Return why a size is unusual.

    Args:
        size: the size.
        before: the sizes in the last runs.
        share: how much it may differ from their median, as a share of the median.

    Returns:
        None if the size is usual, or if there are too few runs to compare.

    """
    if len(before) < RUNS_NEEDED:
        return None
    usual = median(before)
    if abs(size - usual) <= share * usual:
        return None
    return f"{size:,} documents, usually {usual:,.0f}"


def unusual_duration(seconds: float, before: Sequence[float], factor: float) -> str | None:
    """Return why a duration is unusual.

    Args:
        seconds: the duration so far.
        before: the durations of the last runs, in seconds.
        factor: how many times their median it may be.

    Returns:
        None if the duration is usual, or if there are too few runs to compare.

    """
    if len(before) < RUNS_NEEDED:
        return None
    usual = median(before)
    if seconds <= max(MIN_SLOW_SECONDS, factor * usual):
        return None
    return f"{seconds:,.0f} s so far, usually {usual:,.0f} s"
