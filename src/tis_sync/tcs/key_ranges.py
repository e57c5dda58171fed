"""Key ranges: divide large work into ranges of integer keys of a fixed width."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.db.transient import retried


@dataclass(frozen=True)
class KeyRange:
    """Keys from `low` (included) to `high` (excluded); None means unbounded on that side."""

    low: int | None = None
    high: int | None = None

    def clause(self, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """The range as a condition on an SQL column."""
        parts: list[sa.ColumnElement[bool]] = []
        if self.low is not None:
            parts.append(column >= self.low)
        if self.high is not None:
            parts.append(column < self.high)
        return sa.and_(sa.true(), *parts)

    def expression(self, column: str) -> pl.Expr:
        """The range as a condition on a column of a frame."""
        inside = pl.lit(value=True)
        if self.low is not None:
            inside &= pl.col(column) >= self.low
        if self.high is not None:
            inside &= pl.col(column) < self.high
        return inside

    def overlaps(self, other: "KeyRange") -> bool:
        """Whether the two ranges can have keys in common."""
        return _below(self.low, other.high) and _below(other.low, self.high)

    def __contains__(self, other: "KeyRange") -> bool:
        """Whether this range includes every key of another range."""
        from_low = self.low is None or (other.low is not None and other.low >= self.low)
        to_high = self.high is None or (other.high is not None and other.high <= self.high)
        return from_low and to_high


ALL_KEYS = KeyRange()
# More ranges than this are only made if the keys fill them. Counting the keys takes a scan of an
# index, which this many ranges are worth.
MOST_EVEN_RANGES = 250


def key_ranges(
    database: Database, columns: Iterable[sa.Column[int]], width: int, *, multiple_of: int = 1
) -> list[KeyRange]:
    """Divide the keys in the given columns into ranges.

    Args:
        database: the database with the columns.
        columns: key columns; each is the first column of an index of its table.
        width: the number of keys in a range. Fewer than twice as many keys stay in one range,
            because two scans of half a table take longer than one scan of the whole table.
        multiple_of: the width is rounded up to a multiple of this.

    Returns:
        Ranges that cover every key, in order; the first and the last one are open-ended. Their
        bounds are multiples of the width. Where there are no keys, there is no range either: the
        number of ranges depends on the number of keys, even if some are far from the others.

    Raises:
        UnreachableError, LockedError: the database does not answer, even after a few attempts.

    """
    width = -(-width // multiple_of) * multiple_of
    keys = list(columns)
    bounds = [bound for column in keys for bound in retried(partial(_bounds, database, column))]
    lowest, highest = min(bounds, default=0), max(bounds, default=0)
    if highest - lowest < 2 * width:
        return [ALL_KEYS]
    cuts: Iterable[int] = range((lowest // width + 1) * width, highest + 1, width)
    if (highest - lowest) // width > MOST_EVEN_RANGES:
        cuts = _cuts([retried(partial(_counts, database, column, width)) for column in keys], width)
    edges: list[int | None] = [None, *cuts, None]
    return [KeyRange(low, high) for low, high in pairwise(edges)]


def _bounds(database: Database, column: sa.Column[int]) -> list[int]:
    """The lowest and the highest key of a column; empty if it has none."""
    with database.read() as connection:
        row = connection.execute(sa.select(sa.func.min(column), sa.func.max(column))).one()
    return [value for value in row if isinstance(value, int)]


def _counts(database: Database, column: sa.Column[int], width: int) -> pl.DataFrame:
    """How many different keys each occupied stretch of a column has: start, count."""
    start = (column - column % width).label("start")
    statement = (
        sa.select(start, sa.func.count(column.distinct()))
        .where(column.is_not(None))
        .group_by(start)
    )
    with database.read() as connection:
        rows = [tuple(row) for row in connection.execute(statement)]
    return pl.DataFrame(rows, schema={"start": pl.Int64, "count": pl.Int64}, orient="row")


def _cuts(counts: list[pl.DataFrame], width: int) -> list[int]:
    """Where ranges begin, so that each has about `width` keys, but never more than twice that.

    Neighbouring stretches share a range until they fill one. Keys that two columns have in common
    count twice, so a range may have fewer keys than it could.
    """
    stretches = (
        pl.concat(counts)
        .group_by("start")
        .agg(pl.col("count").sum().clip(upper_bound=width))
        .sort("start")
        .with_columns(before=pl.col("count").cum_sum().shift(fill_value=0))
        .with_columns(range=pl.col("before") // width)
    )
    return stretches.filter(pl.col("range") != pl.col("range").shift())["start"].to_list()


def _below(low: int | None, high: int | None) -> bool:
    return low is None or high is None or low < high
