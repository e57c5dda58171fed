"""Key ranges: divide large work into ranges of integer keys of a fixed width."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database


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
        Ranges that cover every key, in order; the first and the last one are open-ended.

    """
    width = -(-width // multiple_of) * multiple_of
    bounds: list[int] = []
    with database.read() as connection:
        for column in columns:
            row = connection.execute(sa.select(sa.func.min(column), sa.func.max(column))).one()
            bounds += [value for value in row if isinstance(value, int)]
    lowest, highest = min(bounds, default=0), max(bounds, default=0)
    if highest - lowest < 2 * width:
        return [ALL_KEYS]
    cuts = [*range((lowest // width + 1) * width, highest + 1, width)]
    edges: list[int | None] = [None, *cuts, None]
    return [KeyRange(low, high) for low, high in pairwise(edges)]


def _below(low: int | None, high: int | None) -> bool:
    return low is None or high is None or low < high
