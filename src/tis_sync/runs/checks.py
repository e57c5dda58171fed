"""Judge the figures of a run: what the guard holds, and what is unusual."""

from collections.abc import Sequence
from statistics import median

import polars as pl

from tis_sync.alarms.catalogue import SET_ASIDE, UNUSUAL_SIZE
from tis_sync.errors import HeldError
from tis_sync.jobs.base import TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.reconcile.guard import Guard
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.tcs.key_ranges import KeyRange

RUNS_NEEDED = 3  # earlier runs, before anything can be called unusual
RUNS_COMPARED = 10
MIN_SLOW_SECONDS = 60.0  # a shorter run is never called slow


def check_guard(s: Services, run: Run, existing: int, lost: int) -> None:
    """Hold a plan that loses too much.

    Args:
        s: settings, clock and servers.
        run: the run.
        existing: the number of existing records; for an index, of documents.
        lost: the records that the plan would lose, without those of an approved plan.

    Raises:
        HeldError: the guard objects; the message says why.

    """
    objection = _objection(s, run, existing, lost)
    if objection is not None:
        raise HeldError(f"{run.job} {objection}. Nothing was written.")


def check_plan_made_again(
    s: Services, run: Run, keys: KeyRange, lost: pl.Series, unapproved: int
) -> None:
    """Judge the plan of a partition that was made again, with the other partitions of the run.

    Args:
        s: settings, clock and servers.
        run: the run.
        keys: the partition.
        lost: hashes of the keys that the new plan loses.
        unapproved: how many of them no approval covers.

    Raises:
        HeldError: the guard objects to the losses of all partitions together.

    """
    # Recorded although the plan may be held: an approval then covers what the message names.
    total = s.losses.record(run.id, keys, lost, unapproved)
    objection = _objection(s, run, run.existing or 0, total, counted_before=True)
    if objection is not None:
        raise HeldError(
            f"{run.job} {objection}. TCS has changed since the plan was judged, so it was made "
            "again. Parts of the earlier plan may have been applied; the rest was not written."
        )


def check_shrinkage(s: Services, run: Run, existing: int, shrinkage: int) -> None:
    """Hold a plan that leaves an index with far fewer documents.

    Args:
        s: settings, clock and servers.
        run: the run.
        existing: the number of existing documents.
        shrinkage: how many documents fewer there would be.

    Raises:
        HeldError: the guard objects, and no approved plan shrank the index as much.

    """
    approved = run.options.approved_run
    allowed = 0 if approved is None else s.history.get(approved).detail.shrinkage
    check_guard(s, run, existing, shrinkage - allowed if shrinkage > allowed else 0)


def _objection(
    s: Services, run: Run, existing: int, lost: int, *, counted_before: bool = False
) -> str | None:
    limits = Guard(s.settings.guard_share, s.settings.guard_rows)
    target = JOB_BY_NAME[run.job].target
    verb, name = "remove", ""
    if isinstance(target, TableTarget):
        name = target.spec.table.name
        if target.spec.columns_only:
            verb = "change"
        elif target.spec.values:
            verb = "remove or empty"
    else:
        name = target.spec.alias
    return limits.objection(
        existing=existing, lost=lost, verb=verb, name=name,
        beyond_approval=run.options.approved_run is not None, counted_before=counted_before,
    )  # fmt: skip


def check_size(s: Services, run: Run, size: int) -> None:
    """Raise an alarm if an index is about to have an unusual size; nothing is stopped."""
    before = [r.size for r in s.history.successes(run.job, RUNS_COMPARED) if r.size is not None]
    found = unusual_size(size, before, s.settings.unusual_size_share)
    if found is None:
        s.alarms.close(UNUSUAL_SIZE, run.job, s.clock())
        return
    details = f"The index is about to contain {found}."
    s.alarms.open(UNUSUAL_SIZE, run.job, details, s.clock(), run_id=run.id)


def check_set_aside(s: Services, run: Run, count: int, *, is_complete: bool) -> None:
    """Raise an alarm if there were many records that a run could not use; call this at its end.

    Args:
        s: settings, clock and servers.
        run: the run; not a dry run, which sends no documents that could be refused.
        count: how many records it could not use.
        is_complete: whether it has used all records, so that a low count closes the alarm.

    """
    if count <= s.settings.set_aside_limit:
        if is_complete:
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
