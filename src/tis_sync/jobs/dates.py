"""Current, future and past: conditions on periods of dates.

Both ends of a period are included. A condition on a missing date is false. Each function returns a
Polars expression that is never null.
"""

from datetime import date

import polars as pl


def current(start: str, end: str, today: date) -> pl.Expr:
    """Start <= today <= end, and neither date is missing."""
    return ((pl.col(start) <= today) & (pl.col(end) >= today)).fill_null(False)


def future(start: str, today: date) -> pl.Expr:
    """The period starts after today; its end does not matter."""
    return (pl.col(start) > today).fill_null(False)


def past(end: str, today: date) -> pl.Expr:
    """The period ended before today; its start does not matter."""
    return (pl.col(end) < today).fill_null(False)
