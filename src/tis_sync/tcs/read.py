"""What a job wants to read of TCS: columns of a table, for all keys or a range of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa


@dataclass(frozen=True)
class KeyRange:
    """Keys from `low` (included) to `high` (excluded); None: without a bound on that side."""

    low: int | None = None
    high: int | None = None

    def clause(self, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """The range as a condition on a column."""
        parts: list[sa.ColumnElement[bool]] = []
        if self.low is not None:
            parts.append(column >= self.low)
        if self.high is not None:
            parts.append(column < self.high)
        return sa.and_(sa.true(), *parts)

    def expression(self, column: str) -> pl.Expr:
        """The range as a condition on a frame's column."""
        inside = pl.lit(value=True)
        if self.low is not None:
            inside &= pl.col(column) >= self.low
        if self.high is not None:
            inside &= pl.col(column) < self.high
        return inside

    def touches(self, other: "KeyRange") -> bool:
        """Whether the two may have keys in common."""
        return _below(self.low, other.high) and _below(other.low, self.high)

    def __contains__(self, other: "KeyRange") -> bool:
        """Whether all keys of another range are in this one."""
        from_low = self.low is None or (other.low is not None and other.low >= self.low)
        to_high = self.high is None or (other.high is not None and other.high <= self.high)
        return from_low and to_high


@dataclass(frozen=True)
class Read:
    """Which columns of a table a job wants, and of which records.

    Attributes:
        table: the TCS table; its name is the frame's name.
        columns: the columns read.
        by: the column that partitions are cut by; None: the whole table.
        through: a second table and the condition that leads to it, where `by` is a column of it.
            A read of all keys without `where` leaves it out.
        where: narrows the read, given the as-of date.
        shared: other jobs of a night read the same: it is kept for them, for a while.

    """

    table: sa.Table
    columns: tuple[str, ...]
    by: sa.Column[int] | None = None
    through: tuple[sa.Table, sa.ColumnElement[bool]] | None = None
    where: Callable[[date], sa.ColumnElement[bool]] | None = None
    shared: bool = False

    def selected(self) -> list[sa.Column[Any]]:
        """The columns of the frame, in order."""
        return [self.table.c[name] for name in self.columns]

    @property
    def is_scattered(self) -> bool:
        """The rows of a key range lie here and there: the table is in another order on disk."""
        return self.by is not None and _table(self.by).primary_key.columns[0] is not self.by

    @property
    def lies_by(self) -> sa.Column[Any]:
        """The column by which a whole scan goes best: rows lie in its order."""
        first: sa.Column[Any] = self.table.primary_key.columns[0]
        return first

    def statement(self, keys: KeyRange, today: date) -> sa.Select[Any]:
        """The SELECT for a key range."""
        narrowed = keys != KeyRange() or self.where is not None
        statement = self._from(self.selected(), today, joined=narrowed)
        return statement if self.by is None else statement.where(keys.clause(self.by))

    def scan(self, today: date) -> sa.Select[Any]:
        """The SELECT for all keys, with `by` and `lies_by` among the columns."""
        assert self.by is not None
        columns = {column.name: column for column in self.selected()}
        for column in (self.by, self.lies_by):
            columns.setdefault(column.name, column)
        return self._from(list(columns.values()), today, joined=True)

    def _from(self, columns: list[sa.Column[Any]], today: date, *, joined: bool) -> sa.Select[Any]:
        statement = sa.select(*columns)
        if joined and self.through is not None:
            other, condition = self.through
            statement = statement.join_from(self.table, other, condition)
        return statement if self.where is None else statement.where(self.where(today))

    def schema(self) -> dict[str, pl.DataType]:
        """The declared types of the frame's columns."""
        return {column.name: polars_type(column.type) for column in self.selected()}


def just(condition: sa.ColumnElement[bool]) -> Callable[[date], sa.ColumnElement[bool]]:
    """A `where` of a read that is the same whatever the day."""
    return lambda _day: condition


def _below(low: int | None, high: int | None) -> bool:
    return low is None or high is None or low < high


def _table(column: sa.Column[Any]) -> sa.Table:
    table = column.table
    assert isinstance(table, sa.Table)
    return table


def polars_type(declared: sa.types.TypeEngine[object]) -> pl.DataType:
    """The Polars type in which we hold a column of the given SQL type."""
    if isinstance(declared, sa.Boolean):
        return pl.Boolean()
    if isinstance(declared, sa.Integer):
        return pl.Int64()
    if isinstance(declared, sa.Float):
        return pl.Float64()
    if isinstance(declared, sa.DateTime):
        return pl.Datetime("us")
    if isinstance(declared, sa.Date):
        return pl.Date()
    return pl.String()
