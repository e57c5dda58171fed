"""Where a period of dates lies as seen from a day; both ends included, a missing date fits nothing.

Each function gives a Polars condition that is never null.
"""

from datetime import date

import polars as pl


def current(start: str, end: str, today: date) -> pl.Expr:
    """Start <= today <= end, both dates present."""
    return ((pl.col(start) <= today) & (pl.col(end) >= today)).fill_null(False)


def future(start: str, today: date) -> pl.Expr:
    """Starts after today; the end does not matter."""
    return (pl.col(start) > today).fill_null(False)


def past(end: str, today: date) -> pl.Expr:
    """Ended before today; the start does not matter."""
    return (pl.col(end) < today).fill_null(False)
