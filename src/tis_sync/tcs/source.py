"""Columnar reads from TCS: whole columns into Polars, cast to the types that we declare.

MySQL and MariaDB are read through ConnectorX, which is the fastest way. SQLite is read through
Python's own driver, because ConnectorX contains a second copy of SQLite, and two copies in one
process break each other's locks.

Columns are read as text if SQLite contains a value that does not fit its column, or if a MySQL
column has become a text column. A read that fails because TCS was away for a moment is repeated.
"""

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

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.db.transient import retried
from tis_sync.errors import SourceError
from tis_sync.tcs.columns import polars_type
from tis_sync.tcs.connector import SMALL_ROWS, read_columns, read_small
from tis_sync.tcs.fit import SetAside, Table, fit, packed
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange, key_ranges
from tis_sync.tcs.read import Read
from tis_sync.tcs.spool import Spool

KEPT_SECONDS = 300.0  # a read that is older than this is repeated
ROWS_PER_SCAN = 500_000  # rows or integer keys that a full scan reads at a time; this bounds memory
READS_AT_ONCE = 3  # tables of one partition; more would only wait for the server

Frames = Mapping[str, pl.DataFrame]
"""What a job reads: one frame per TCS table, by table name."""


@dataclass(frozen=True)
class Loaded:
    """What was read for a key range: one frame per table, and the records that were set aside."""

    frames: Frames
    set_aside: list[SetAside]


Whole = tuple[pl.DataFrame | Spool, list[SetAside]]


@dataclass
class Source:
    """The reads of one run.

    Whole tables are kept for a few minutes, because other partitions need them too. Those that
    other jobs of a night need are kept by the source of the night. Several reads are not one
    snapshot of TCS; the next plan corrects any inconsistency between them.

    Attributes:
        database: TCS.
        today: the as-of date.
        folder: the folder in which large tables are spooled.
        night: the source that the jobs of a night share. None: the run belongs to no night.
        clock: monotonic, in seconds.
        sleep: waits for some seconds, before a read is repeated.

    """

    database: Database
    today: date
    folder: Path = Path(gettempdir())
    night: "Source | None" = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _kept: dict[str, tuple[float, Whole]] = field(default_factory=dict)
    _loading: dict[str, RLock] = field(default_factory=dict)
    _types: dict[str, dict[str, sa.types.TypeEngine[Any]]] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def load(self, reads: Iterable[Read], keys: KeyRange, *, fresh: bool = False) -> Loaded:
        """Load everything that a job reads for one key range.

        Args:
            reads: the reads of the job.
            keys: the range.
            fresh: read TCS again instead of using what was kept.

        Raises:
            UnreachableError: TCS does not answer.
            SourceError: TCS refuses a read.

        """
        needed = list(reads)
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="read") as threads:
            tables = list(threads.map(lambda read: self._read(read, keys, fresh=fresh), needed))
        frames = {read.table.name: t[0] for read, t in zip(needed, tables, strict=True)}
        return Loaded(frames, [record for _, unfit in tables for record in unfit])

    def _read(self, read: Read, keys: KeyRange, *, fresh: bool) -> Table:
        """Read the columns of one table in their declared types, and the set-aside records."""
        is_part = keys != ALL_KEYS
        if fresh:
            return self._fetch(read, self._statement(read, keys))
        if read.shared and self.night is not None:
            return self.night._read(read, keys, fresh=False)
        if is_part and not read.is_clustered:
            whole, unfit = self._keep(f"by {read.partition_column}: ", read, self._spooled)
        elif read.partition_column is None or (read.shared and not is_part):
            whole, unfit = self._keep("", read, self._whole)
        else:
            return self._fetch(read, self._statement(read, keys))
        # Every partition uses the whole table, but only the first one reports its unfit records.
        frame = whole.take(keys) if isinstance(whole, Spool) else whole
        return frame, unfit if keys.low is None else []

    def _keep(self, form: str, read: Read, load: Callable[[Read], Whole]) -> Whole:
        """The result of a read, kept for a few minutes; only one of several threads loads it."""
        key = form + self._compiled(self._statement(read, ALL_KEYS))
        with self._lock:
            loading = self._loading.setdefault(key, RLock())
        with loading:
            loaded_at, result = self._kept.get(key, (0.0, None))
            if result is None or self.clock() - loaded_at >= KEPT_SECONDS:
                result = load(read)
                with self._lock:
                    self._kept[key] = (self.clock(), result)
            return result

    def _whole(self, read: Read) -> Table:
        return self._fetch(read, self._statement(read, ALL_KEYS))

    def _spooled(self, read: Read) -> tuple[Spool, list[SetAside]]:
        """Read a whole table in its order on disk, and sort it into a spool."""
        assert read.partition_column is not None
        spool, unfit = (
            Spool(self.folder, read.partition_column.name, read.schema()),
            list[SetAside](),
        )
        for frame, bad in self._scan(read):
            spool.add(frame)
            unfit += bad
        return spool, unfit

    def _scan(self, read: Read) -> Iterator[Table]:
        """Read a whole table in its order on disk, a bounded number of rows at a time."""
        statement = read.scan(self.today, exact_texts=self._is_sqlite)
        order = read.scan_column
        if isinstance(order.type, sa.Integer):
            for keys in key_ranges(self.database, [order], ROWS_PER_SCAN):
                yield self._fetch(read, statement.where(keys.clause(order)))
            return
        page = statement.order_by(order).limit(ROWS_PER_SCAN)
        while True:
            frame = self._raw(read, page)
            yield fit(frame, read, list(page.selected_columns))
            if frame.height < ROWS_PER_SCAN:
                return
            page = (
                statement.where(order > frame[order.name][-1]).order_by(order).limit(ROWS_PER_SCAN)
            )

    @property
    def _is_sqlite(self) -> bool:
        return self.database.dialect == "sqlite"

    def _statement(self, read: Read, keys: KeyRange) -> sa.Select[Any]:
        return read.statement(keys, self.today, exact_texts=self._is_sqlite)

    def _fetch(self, read: Read, statement: sa.Select[Any]) -> Table:
        return fit(self._raw(read, statement), read, list(statement.selected_columns))

    def _raw(self, read: Read, statement: sa.Select[Any]) -> pl.DataFrame:
        """The result of a SELECT, with the driver's types."""

        def once() -> pl.DataFrame:
            if self._is_sqlite:
                return self._from_sqlite(statement)
            packed = self._packed(statement)
            if self._is_small(read.table):
                sql = self._compiled(packed.limit(SMALL_ROWS + 1))
                if (small := read_small(self.database, sql)) is not None:
                    return small
            return read_columns(self.database, self._compiled(packed), read.table.name)

        return retried(once, sleep=self.sleep, clock=self.clock)

    def _is_small(self, table: sa.Table) -> bool:
        """Whether a table has few rows, as far as the server knows."""
        with self._lock:
            if not self._rows:
                listed = sa.text(
                    "SELECT table_name, table_rows FROM information_schema.tables "
                    "WHERE table_schema = DATABASE()"
                )
                with self.database.read() as connection:
                    self._rows = {name: rows or 0 for name, rows in connection.execute(listed)}
            return bool(self._rows.get(table.name, SMALL_ROWS) < SMALL_ROWS)

    def _from_sqlite(self, statement: sa.Select[Any]) -> pl.DataFrame:
        schema = {column.name: _sqlite_type(column.type) for column in statement.selected_columns}
        with self.database.read() as connection:
            # Use the driver's tuples: SQLAlchemy's rows take three times as long.
            connection.execute(statement.limit(0))
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            rows = driver.execute(self._compiled(statement)).fetchall()
            try:
                return _frame(rows, schema)
            except (TypeError, OverflowError, pl.exceptions.PolarsError):
                rows = driver.execute(self._compiled(_as_text(statement))).fetchall()
                return _frame(rows, dict.fromkeys(schema, pl.String()))

    def _packed(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """Select dates and times as integers.

        A column that has become a text column is left alone, so that text that is not a date is
        noticed.
        """
        return statement.with_only_columns(
            *(
                packed(column)
                if isinstance(column.type, (sa.Date, sa.DateTime)) and not self._holds_text(column)
                else column
                for column in statement.selected_columns
            )
        )

    def _holds_text(self, column: sa.ColumnElement[Any]) -> bool:
        table = cast("sa.Table", column.table)
        with self._lock:
            if table.name not in self._types:
                try:
                    with self.database.read() as connection:
                        columns = sa.inspect(connection).get_columns(table.name)
                except sa.exc.NoSuchTableError:
                    raise SourceError(
                        f"TCS at {self.database.address} has no table {table.name}. See all "
                        "differences: `tis-sync schema check`."
                    ) from None
                self._types[table.name] = {c["name"]: c["type"] for c in columns}
            return isinstance(self._types[table.name].get(column.name), sa.String)

    def _compiled(self, statement: sa.Select[Any]) -> str:
        sql = str(statement.compile(self.database.engine, compile_kwargs={"literal_binds": True}))
        return sql.replace("%%", "%")


def _frame(rows: list[tuple[Any, ...]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Make a frame of rows; raise if a value does not have the type of its column."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=data_type, strict=True)
            for (name, data_type), values in zip(schema.items(), columns, strict=True)
        ]
    )


def _as_text(statement: sa.Select[Any]) -> sa.Select[Any]:
    """Select every value as text."""
    columns: list[sa.ColumnElement[Any]] = [
        sa.cast(column, sa.Text).label(column.name) for column in statement.selected_columns
    ]
    return statement.with_only_columns(*columns)


def _sqlite_type(declared: sa.types.TypeEngine[object]) -> pl.DataType:
    """The type in which Python's driver returns a column: dates as text, booleans as numbers."""
    data_type = polars_type(declared)
    if data_type.is_temporal():
        return pl.String()
    return pl.Int64() if data_type == pl.Boolean else data_type
