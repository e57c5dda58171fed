"""Columnar reads from TCS: whole columns into Polars, cast to the types that we declare.

The fast way, on MySQL and MariaDB, is ConnectorX. SQLite is read through Python's own driver: a
second copy of SQLite in one process, as ConnectorX brings, breaks the locks of the first. Where
SQLite holds a value that does not fit its column, the columns are read as text; as they are where
MySQL's column has become one. What cannot be cast from text to the declared type costs one record,
which is set aside with its key and reason, never the job.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from threading import RLock
from typing import Any, cast

os.environ.setdefault("RUST_LOG", "off")  # ConnectorX's pool would print each refused connection

import connectorx as cx
import polars as pl
import sqlalchemy as sa

from tis_sync.errors import SourceError
from tis_sync.tcs.connect import explained, shown

EPOCH_DAY = 719_528  # 1970-01-01, as MySQL's TO_DAYS numbers days
KEPT_SECONDS = 300.0  # a read older than this is made again
SHARED_BYTES = 128_000_000  # shared partitions beyond this are not kept
READS_AT_ONCE = 3  # tables of one partition; more only wait for the server

Frames = Mapping[str, pl.DataFrame]
"""What a job reads: a frame a TCS table, by the table's name."""


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


@dataclass(frozen=True)
class Read:
    """Which columns of a table a job wants, and of which records.

    Attributes:
        table: the TCS table; its name is the frame's name.
        columns: the columns read.
        by: the column that partitions are cut by; None: the whole table.
        through: a second table and the condition that leads to it, where `by` is a column of it.
            A read of all keys that asks for nothing of that table leaves it out.
        also: columns of that second table to read too.
        where: narrows the read, given the as-of date.
        shared: other jobs of a night read the same, or other partitions: keep it for a while.

    """

    table: sa.Table
    columns: tuple[str, ...]
    by: sa.Column[int] | None = None
    through: tuple[sa.Table, sa.ColumnElement[bool]] | None = None
    also: tuple[str, ...] = ()
    where: Callable[[date], sa.ColumnElement[bool]] | None = None
    shared: bool = False

    def selected(self) -> list[sa.Column[Any]]:
        """The columns of the frame, in order."""
        own = [self.table.c[name] for name in self.columns]
        return own + ([self.through[0].c[name] for name in self.also] if self.through else [])

    def statement(self, keys: KeyRange, today: date) -> sa.Select[Any]:
        """The SELECT for a key range."""
        statement = sa.select(*self.selected())
        narrowed = keys != KeyRange() or self.where is not None
        if self.through is not None and (narrowed or self.also):
            other, condition = self.through
            statement = statement.join_from(self.table, other, condition)
        if self.by is not None:
            statement = statement.where(keys.clause(self.by))
        if self.where is not None:
            statement = statement.where(self.where(today))
        return statement

    def schema(self) -> dict[str, pl.DataType]:
        """The declared types of the frame's columns."""
        return {column.name: polars_type(column.type) for column in self.selected()}


def just(condition: sa.ColumnElement[bool]) -> Callable[[date], sa.ColumnElement[bool]]:
    """A `where` of a read that is the same whatever the day."""
    return lambda _day: condition


@dataclass(frozen=True)
class SetAside:
    """A record that a job could not use: the table, its key, the column, the value and why."""

    table: str
    key: str
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} {self.value!r} {self.reason}"


@dataclass(frozen=True)
class Loaded:
    """What was read for one key range: a frame a table, and the records that did not fit."""

    frames: Frames
    set_aside: list[SetAside]


Table = tuple[pl.DataFrame, list[SetAside]]


@dataclass
class Source:
    """Reads of one run, or of one night, from one TCS.

    Whole tables and shared reads are kept for some minutes, as far as there is room, for other
    partitions and other jobs of the night. Several reads are not one snapshot of TCS anyway; what
    that tears apart, the next plan mends.

    Attributes:
        engine: TCS.
        today: the as-of date.
        clock: seconds, monotonic.

    """

    engine: sa.Engine
    today: date
    clock: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, Table]] = field(default_factory=dict)
    _shared_bytes: int = 0
    _loading: dict[str, RLock] = field(default_factory=dict)
    _types: dict[str, dict[str, sa.types.TypeEngine[Any]]] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def load(self, reads: Iterable[Read], keys: KeyRange) -> Loaded:
        """All that a job reads, for one key range.

        Raises:
            UnreachableError: TCS does not answer.
            SourceError: TCS refuses a read.

        """
        asked = list(reads)
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="read") as threads:
            tables = list(threads.map(lambda read: self._read(read, keys), asked))
        # A whole table is read for every partition; what is unfit in it is told with the first.
        told = [
            record
            for read, (_, unfit) in zip(asked, tables, strict=True)
            if read.by is not None or keys.low is None
            for record in unfit
        ]
        frames = {read.table.name: t[0] for read, t in zip(asked, tables, strict=True)}
        return Loaded(frames, told)

    def _read(self, read: Read, keys: KeyRange) -> Table:
        """One table's columns, with the declared types, and the records that do not fit them."""
        if read.by is not None and not read.shared:
            return self._fetch(read, keys)
        wanted = self._compiled(read.statement(keys, self.today))
        with self._lock:
            loading = self._loading.setdefault(wanted, RLock())
        with loading:  # of several that want the same, one reads it
            read_at, table = self._kept.get(wanted, (0.0, None))
            if table is not None and self.clock() - read_at < KEPT_SECONDS:
                return table
            table = self._fetch(read, keys)
            size = int(table[0].estimated_size())
            with self._lock:
                if read.by is None or self._shared_bytes + size <= SHARED_BYTES:
                    self._kept[wanted] = (self.clock(), table)
                    self._shared_bytes += 0 if read.by is None else size
            return table

    def _fetch(self, read: Read, keys: KeyRange) -> Table:
        statement = read.statement(keys, self.today)
        if self.engine.dialect.name == "sqlite":
            return _fit(self._from_sqlite(statement), read)
        try:
            sql = self._compiled(self._with_plain_dates(statement))
            frame = cx.read_sql(connector_url(self.engine), sql, return_type="polars")
        except RuntimeError as error:
            # What a person can mend fails again here, with a reason that we can explain.
            with (
                explained(self.engine, name="TCS", setting="TIS_SYNC_TCS_URL"),
                self.engine.connect() as connection,
            ):
                connection.execute(statement.limit(1))
            raise SourceError(
                f"TCS at {shown(self.engine.url)}: cannot read {read.table.name}: {error}"
            ) from error
        assert isinstance(frame, pl.DataFrame)
        return _fit(frame, read)

    def _from_sqlite(self, statement: sa.Select[Any]) -> pl.DataFrame:
        schema = {column.name: _sqlite_type(column.type) for column in statement.selected_columns}
        with (
            explained(self.engine, name="TCS", setting="TIS_SYNC_TCS_URL"),
            self.engine.connect() as connection,
        ):
            # The driver's own tuples: SQLAlchemy's rows take thrice the time, and are not needed.
            connection.execute(statement.limit(0))
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            rows = driver.execute(self._compiled(statement)).fetchall()
            try:
                return _frame(rows, schema)
            except (TypeError, OverflowError, pl.exceptions.PolarsError):
                rows = driver.execute(self._compiled(_as_text(statement))).fetchall()
                return _frame(rows, dict.fromkeys(schema, pl.String()))

    def _with_plain_dates(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """The statement with dates as day numbers: half the time, and 0000-00-00 becomes NULL.

        (MySQL allows that date for "none"; ConnectorX panics on it.) A date column that has become
        one of text is left alone, so that texts which are no dates are noticed.
        """
        return statement.with_only_columns(
            *(
                sa.func.to_days(column).label(column.name)
                if isinstance(column.type, sa.Date) and not self._holds_text(column)
                else column
                for column in statement.selected_columns
            )
        )

    def _holds_text(self, column: sa.ColumnElement[Any]) -> bool:
        table = cast("sa.Table", column.table)
        with self._lock:
            if table.name not in self._types:
                try:
                    found = sa.inspect(self.engine).get_columns(table.name)
                except sa.exc.NoSuchTableError:
                    raise SourceError(
                        f"TCS at {shown(self.engine.url)} has no table {table.name}."
                    ) from None
                self._types[table.name] = {column["name"]: column["type"] for column in found}
            return isinstance(self._types[table.name].get(column.name), sa.String)

    def _compiled(self, statement: sa.Select[Any]) -> str:
        sql = str(statement.compile(self.engine, compile_kwargs={"literal_binds": True}))
        return sql.replace("%%", "%")


def _fit(frame: pl.DataFrame, read: Read) -> Table:
    """Cast to the declared types; take out, and name, the records that do not fit."""
    schema = read.schema()
    casted = frame.select(
        _cast(pl.col(name), frame.schema[name], wanted).alias(name)
        for name, wanted in schema.items()
    )
    unfit = [
        name
        for name, wanted in schema.items()
        if frame.schema[name] == pl.String
        and wanted != pl.String
        and casted[name].null_count() > frame[name].null_count()
    ]
    if not unfit:
        return casted, []
    bad = {name: frame[name].is_not_null() & casted[name].is_null() for name in unfit}
    key = pl.concat_str([pl.col(k).cast(pl.String) for k in _record_key(read)], separator="/")
    found = [
        SetAside(read.table.name, record, name, value, f"is not a {_kind(schema[name])}")
        for name, mask in bad.items()
        for record, value in frame.filter(mask).select(key.alias("key"), value=name).iter_rows()
    ]
    return casted.filter(~pl.any_horizontal(bad.values())), found


def _frame(rows: list[tuple[Any, ...]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """A frame of the driver's rows; raises where a value is not of its column's type."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=wanted, strict=True)
            for (name, wanted), values in zip(schema.items(), columns, strict=True)
        ]
    )


def connector_url(engine: sa.Engine) -> str:
    """The engine's address in the form that ConnectorX takes; MySQL and MariaDB only."""
    return engine.url.set(drivername="mysql", query={}).render_as_string(hide_password=False)


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


def _as_text(statement: sa.Select[Any]) -> sa.Select[Any]:
    """The statement with every value as text."""
    columns: list[sa.ColumnElement[Any]] = [
        sa.cast(column, sa.Text).label(column.name) for column in statement.selected_columns
    ]
    return statement.with_only_columns(*columns)


def _sqlite_type(declared: sa.types.TypeEngine[object]) -> pl.DataType:
    """How Python's driver hands over a column: dates as text, booleans as numbers."""
    wanted = polars_type(declared)
    if wanted.is_temporal():
        return pl.String()
    return pl.Int64() if wanted == pl.Boolean else wanted


def _cast(column: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    if found == wanted:
        return column
    if found.is_integer() and wanted == pl.Date:
        return (column - EPOCH_DAY).cast(pl.Int32).cast(pl.Date)
    if found == pl.String and wanted == pl.Date:
        return column.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    if found == pl.String and wanted == pl.Datetime:
        return column.str.to_datetime(strict=False)
    if found == pl.String and wanted == pl.Boolean:
        return column.cast(pl.Int64, strict=False) != 0
    if found == pl.Binary and wanted == pl.Boolean:
        return column != b"\x00"
    return column.cast(wanted, strict=False)


def _record_key(read: Read) -> list[str]:
    """The columns read that name a record best: its primary key, else the first column."""
    key = [c.name for c in read.table.primary_key.columns if c.name in read.columns]
    return key or [read.columns[0]]


def _kind(wanted: pl.DataType) -> str:
    return "date" if wanted.is_temporal() else "number"
