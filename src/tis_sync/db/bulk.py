"""Bulk inserts: write a whole frame in multi-row statements."""

import polars as pl
import sqlalchemy as sa

# Keys in one statement: below the packet limit of any server and SQLite's 32,766 parameters.
KEYS_PER_STATEMENT = 5_000
ROWS_PER_INSERT = 50_000  # rows passed to the driver at once; this bounds its memory


def insert(connection: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    """Insert the rows of a frame.

    Args:
        connection: a write transaction.
        table: the table.
        frame: the rows; columns that the table does not have are ignored.

    """
    columns = [column.name for column in table.columns if column.name in frame.columns]
    sql = str(sa.insert(table).compile(connection.engine, column_keys=columns))
    for part in frame.select(columns).iter_slices(ROWS_PER_INSERT):
        connection.exec_driver_sql(sql, part.rows())
