"""A read: the columns of a TCS table that a job needs, for all keys or for a key range."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from tis_sync.tcs.columns import comparable, is_key, polars_type
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange

DAYS_OF_WHERE = 700_000  # any date serves; only the columns of the condition matter


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

    def needed(self) -> dict[sa.Table, set[str]]:
        """The names of all columns that the statements refer to, by table."""
        clauses: list[sa.ClauseElement] = list(self.selected())
        if self.partition_column is not None:
            clauses += [self.partition_column, self.scan_column]
        if self.join is not None:
            clauses.append(self.join[1])
        if self.where is not None:
            clauses.append(self.where(date.min + timedelta(days=DAYS_OF_WHERE)))
        needed: dict[sa.Table, set[str]] = {}
        for clause in clauses:
            for part in iterate(clause):
                if isinstance(part, sa.Column) and isinstance(part.table, sa.Table):
                    needed.setdefault(part.table, set()).add(part.name)
        return needed

    def statement(
        self, keys: KeyRange, today: date, *, exact_texts: bool = False
    ) -> sa.Select[Any]:
        """The SELECT for a key range.

        Args:
            keys: the range.
            today: the as-of date.
            exact_texts: whether the database compares texts exactly, as SQLite does, so that text
                keys must be normalised for a join.

        """
        narrowed = keys != ALL_KEYS or self.where is not None
        statement = self._from(self.selected(), today, joined=narrowed)
        if self.partition_column is not None:
            statement = statement.where(keys.clause(self.partition_column))
        return self._normalised(statement) if exact_texts and narrowed else statement

    def scan(self, today: date, *, exact_texts: bool = False) -> sa.Select[Any]:
        """The SELECT for all keys; it includes `partition_column` and `scan_column`."""
        assert self.partition_column is not None
        columns = {column.name: column for column in self.selected()}
        for column in (self.partition_column, self.scan_column):
            columns.setdefault(column.name, column)
        statement = self._from(list(columns.values()), today, joined=True)
        return self._normalised(statement) if exact_texts else statement

    def _from(self, columns: list[sa.Column[Any]], today: date, *, joined: bool) -> sa.Select[Any]:
        statement = sa.select(*columns)
        if joined and self.join is not None:
            other, condition = self.join
            statement = statement.join_from(self.table, other, condition)
        return statement if self.where is None else statement.where(self.where(today))

    def _normalised(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """Join by normalised text keys.

        The second table is replaced by a copy with its keys normalised, made once per statement:
        SQLite can index a copy, but not the result of a function.
        """
        if self.join is None:
            return statement
        other, condition = self.join
        if not any(is_key(c) for c in iterate(condition) if isinstance(c, sa.Column)):
            return statement
        copy = (
            sa.select(*(comparable(column).label(column.name) for column in other.columns))
            .cte(f"{other.name}Copy")
            .prefix_with("MATERIALIZED")
        )

        def replaced(element: Any, **_: object) -> Any:
            if element is other:
                return copy
            if isinstance(element, sa.Column) and element.table is other:
                return copy.c[element.name]
            if isinstance(element, sa.Column) and element.table is self.table and is_key(element):
                return comparable(element)
            return None

        columns = [
            copy.c[column.name] if column.table is other else column
            for column in statement.selected_columns
        ]
        normalised = sa.select(*columns).join_from(
            self.table, copy, replacement_traverse(condition, {}, replaced)
        )
        if statement.whereclause is not None:
            normalised = normalised.where(replacement_traverse(statement.whereclause, {}, replaced))
        return normalised

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
