"""A read: the columns of a TCS table that a job needs, for all keys or for a key range."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange


@dataclass(frozen=True)
class Read:
    """The columns and rows of a table that a job needs.

    Attributes:
        table: the TCS table; its name is the name of the frame.
        columns: the columns to read.
        partition_column: the column that key ranges refer to. None: read the whole table.
        join: a second table and the join condition, if `partition_column` or a column that `where`
            uses belongs to that table. A read of all keys without `where` skips the join.
        where: a condition that narrows the read, given the as-of date.
        shared: whether other jobs of a night need the same read, so that its result is kept.

    """

    table: sa.Table
    columns: tuple[str, ...]
    partition_column: sa.Column[int] | None = None
    join: tuple[sa.Table, sa.ColumnElement[bool]] | None = None
    where: Callable[[date], sa.ColumnElement[bool]] | None = None
    shared: bool = False

    def selected(self) -> list[sa.Column[Any]]:
        """The columns of the frame, in order."""
        return [self.table.c[name] for name in self.columns]

    @property
    def is_clustered(self) -> bool:
        """Whether the rows of a key range are adjacent on disk (always true for a whole table)."""
        if self.partition_column is None:
            return True
        return _table(self.partition_column).primary_key.columns[0] is self.partition_column

    @property
    def scan_column(self) -> sa.Column[Any]:
        """The column by which the rows are ordered on disk; a full scan follows it."""
        first: sa.Column[Any] = self.table.primary_key.columns[0]
        return first

    def statement(self, keys: KeyRange, today: date) -> sa.Select[Any]:
        """The SELECT for a key range."""
        narrowed = keys != ALL_KEYS or self.where is not None
        statement = self._from(self.selected(), today, joined=narrowed)
        if self.partition_column is None:
            return statement
        return statement.where(keys.clause(self.partition_column))

    def scan(self, today: date) -> sa.Select[Any]:
        """The SELECT for all keys; it includes `partition_column` and `scan_column`."""
        assert self.partition_column is not None
        columns = {column.name: column for column in self.selected()}
        for column in (self.partition_column, self.scan_column):
            columns.setdefault(column.name, column)
        return self._from(list(columns.values()), today, joined=True)

    def _from(self, columns: list[sa.Column[Any]], today: date, *, joined: bool) -> sa.Select[Any]:
        statement = sa.select(*columns)
        if joined and self.join is not None:
            other, condition = self.join
            statement = statement.join_from(self.table, other, condition)
        return statement if self.where is None else statement.where(self.where(today))

    def schema(self) -> dict[str, pl.DataType]:
        """The Polars types of the frame's columns, by name."""
        return {column.name: polars_type(column.type) for column in self.selected()}


def always(condition: sa.ColumnElement[bool]) -> Callable[[date], sa.ColumnElement[bool]]:
    """Make a `where` that does not depend on the day."""
    return lambda _day: condition


def _table(column: sa.Column[Any]) -> sa.Table:
    table = column.table
    assert isinstance(table, sa.Table)
    return table


def polars_type(declared: sa.types.TypeEngine[object]) -> pl.DataType:
    """The Polars type for a declared SQL type; text for every type not listed here."""
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
