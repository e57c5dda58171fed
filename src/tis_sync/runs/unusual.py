"""What is unusual, measured against the last runs of the same job."""

from collections.abc import Sequence
from statistics import median

RUNS_NEEDED = 3  # before there is a "usual"
RUNS_COMPARED = 10
SECONDS_ALWAYS_FINE = 60.0  # no run shorter than this is called slow


def unusual_size(size: int, before: Sequence[int], share: float) -> str | None:
    """Why a size is unusual: more than `share` away from the median of `before`; None: it's not."""
    if len(before) < RUNS_NEEDED:
        return None
    usual = median(before)
    if abs(size - usual) <= share * usual:
        return None
    return f"{size:,} documents, usually {usual:,.0f}"


def unusual_duration(seconds: float, before: Sequence[float], factor: float) -> str | None:
    """Why a duration is unusual: over `factor` times the median of `before`; None: it is not."""
    if len(before) < RUNS_NEEDED:
        return None
    usual = median(before)
    if seconds <= max(SECONDS_ALWAYS_FINE, factor * usual):
        return None
    return f"{seconds:,.0f} s so far, usually {usual:,.0f} s"
