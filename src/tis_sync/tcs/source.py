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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import gettempdir
from threading import RLock
from typing import Any, cast

os.environ.setdefault("RUST_LOG", "off")  # ConnectorX's pool would print each refused connection

import connectorx as cx
import polars as pl
import sqlalchemy as sa

from tis_sync.errors import SourceError
from tis_sync.tcs.connect import explained, shown
from tis_sync.tcs.read import KeyRange, Read, polars_type
from tis_sync.tcs.spans import spans
from tis_sync.tcs.spool import Spool

EPOCH_DAY = 719_528  # 1970-01-01, as MySQL's TO_DAYS numbers days
KEPT_SECONDS = 300.0  # a read older than this is made again
ROWS_A_SCAN = 500_000  # of a whole scan at a time (by number of key where it is one); bounds memory
READS_AT_ONCE = 3  # tables of one partition; more only wait for the server

Frames = Mapping[str, pl.DataFrame]
"""What a job reads: a frame a TCS table, by the table's name."""


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
Whole = tuple[pl.DataFrame | Spool, list[SetAside]]


@dataclass
class Source:
    """Reads of one run from one TCS.

    What is read whole is kept for some minutes for other partitions; what other jobs of a night
    read too, by the night's own source. Several reads are not one snapshot of TCS anyway; what that
    tears apart, the next plan mends.

    Attributes:
        engine: TCS.
        today: the as-of date.
        folder: where large tables are kept meanwhile.
        night: the source that the jobs of a night share.
        clock: seconds, monotonic.

    """

    engine: sa.Engine
    today: date
    folder: Path = Path(gettempdir())
    night: "Source | None" = None
    clock: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, Whole]] = field(default_factory=dict)
    _loading: dict[str, RLock] = field(default_factory=dict)
    _types: dict[str, dict[str, sa.types.TypeEngine[Any]]] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def load(self, reads: Iterable[Read], keys: KeyRange, *, fresh: bool = False) -> Loaded:
        """All that a job reads, for one key range.

        Args:
            reads: which columns of which tables.
            keys: the range.
            fresh: as TCS is now, whatever was read before.

        Raises:
            UnreachableError: TCS does not answer.
            SourceError: TCS refuses a read.

        """
        asked = list(reads)
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="read") as threads:
            tables = list(threads.map(lambda read: self._read(read, keys, fresh=fresh), asked))
        frames = {read.table.name: t[0] for read, t in zip(asked, tables, strict=True)}
        return Loaded(frames, [record for _, unfit in tables for record in unfit])

    def _read(self, read: Read, keys: KeyRange, *, fresh: bool) -> Table:
        """One table's columns, with the declared types, and the records that do not fit them."""
        is_part = keys != KeyRange()
        if fresh:
            return self._fetch(read, read.statement(keys, self.today))
        if read.shared and self.night is not None:
            return self.night._read(read, keys, fresh=False)
        if is_part and read.is_scattered:
            found, unfit = self._keep(f"by {read.by}: ", read, self._spooled)
        elif read.by is None or (read.shared and not is_part):
            found, unfit = self._keep("", read, self._whole)
        else:
            return self._fetch(read, read.statement(keys, self.today))
        # What is read whole serves every partition; what is unfit in it is told with the first.
        frame = found.take(keys) if isinstance(found, Spool) else found
        return frame, unfit if keys.low is None else []

    def _keep(self, form: str, read: Read, make: Callable[[Read], Whole]) -> Whole:
        """What a read gives, made unless it was some minutes ago; by one of those that want it."""
        wanted = form + self._compiled(read.statement(KeyRange(), self.today))
        with self._lock:
            loading = self._loading.setdefault(wanted, RLock())
        with loading:
            read_at, found = self._kept.get(wanted, (0.0, None))
            if found is None or self.clock() - read_at >= KEPT_SECONDS:
                found = make(read)
                with self._lock:
                    self._kept[wanted] = (self.clock(), found)
            return found

    def _whole(self, read: Read) -> Table:
        return self._fetch(read, read.statement(KeyRange(), self.today))

    def _spooled(self, read: Read) -> tuple[Spool, list[SetAside]]:
        """A whole table, read as it lies and sorted into a spool."""
        assert read.by is not None
        spool, unfit = Spool(self.folder, read.by.name, read.schema()), list[SetAside]()
        for frame, bad in self._scan(read):
            spool.add(frame)
            unfit += bad
        return spool, unfit

    def _scan(self, read: Read) -> Iterator[Table]:
        """A whole table, a bounded number of rows at a time, in the order in which they lie."""
        statement, order = read.scan(self.today), read.lies_by
        if isinstance(order.type, sa.Integer):
            for span in spans(self.engine, [order], ROWS_A_SCAN):
                yield self._fetch(read, statement.where(span.clause(order)))
            return
        page = statement.order_by(order).limit(ROWS_A_SCAN)
        while True:
            frame = self._raw(read, page)
            yield _fit(frame, read, page)
            if frame.height < ROWS_A_SCAN:
                return
            page = statement.where(order > frame[order.name][-1]).order_by(order).limit(ROWS_A_SCAN)

    def _fetch(self, read: Read, statement: sa.Select[Any]) -> Table:
        return _fit(self._raw(read, statement), read, statement)

    def _raw(self, read: Read, statement: sa.Select[Any]) -> pl.DataFrame:
        """The answer to a SELECT, with the types in which it comes."""
        if self.engine.dialect.name == "sqlite":
            return self._from_sqlite(statement)
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
        return frame

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


def _fit(frame: pl.DataFrame, read: Read, statement: sa.Select[Any]) -> Table:
    """Cast to the declared types; take out, and name, the records that do not fit."""
    schema = {column.name: polars_type(column.type) for column in statement.selected_columns}
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
