"""Writing to TCS: the transaction, and inserts of whole frames."""

from contextlib import AbstractContextManager

import polars as pl
import sqlalchemy as sa

# Keys named in one statement: short enough for any server's packet limit, and for SQLite's limit
# of 32,766 parameters.
KEYS_A_STATEMENT = 5_000
ROWS_AN_INSERT = 50_000  # rows handed to the driver at once; bounds its memory


def writing(engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
    """A transaction that is going to write (SQLite then takes its write lock at once)."""
    return engine.execution_options(writes=True).begin()


def insert(connection: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    """Insert a frame's rows: multi-row statements made by the driver, bounded in memory."""
    columns = [column.name for column in table.columns if column.name in frame.columns]
    sql = str(sa.insert(table).compile(connection.engine, column_keys=columns))
    for part in frame.select(columns).iter_slices(ROWS_AN_INSERT):
        connection.exec_driver_sql(sql, part.rows())
