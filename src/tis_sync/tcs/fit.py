"""Fit what a driver returned to the declared types, and set aside the records that do not fit.

A value that cannot be cast never fails the job: its record is set aside, with its key and the
reason. Text keys and codes are normalised here (see `tis_sync.tcs.columns`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.tcs.columns import normalised, polars_type
from tis_sync.tcs.read import Read

# MySQL stores days that do not exist: 0000-00-00, which stands for "none", and those of the SQL
# modes that applications choose, as 2025-08-00 and 2025-02-31. ConnectorX panics on them, and date
# functions turn some of them into other days. So a day is read as the number YYYYMMDD, and a time
# as that number times this, plus the microseconds of the day; both fit into 63 bits.
DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class SetAside:
    """A record that a job could not use.

    Attributes:
        table: its TCS table.
        key: its primary key, as text.
        column: the column with the bad value.
        value: the bad value, as text.
        reason: what is wrong with the value, as a predicate ("is not a number").

    """

    table: str
    key: str
    column: str
    value: str
    reason: str

    def without_value(self) -> dict[str, str]:
        """What the log may contain: the value may be personal data."""
        return {
            "table": self.table, "key": self.key, "column": self.column, "reason": self.reason,
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} {self.value!r} {self.reason}"


Table = tuple[pl.DataFrame, list[SetAside]]


def packed(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Select a date or a time of MySQL as an integer, which is as fast as itself, and exact."""
    day = sa.func.date(column).op("+")(sa.literal_column("0"))
    if not isinstance(column.type, sa.DateTime):
        return day.label(column.name)
    seconds = sa.func.floor(sa.func.time_to_sec(column))
    total: sa.ColumnElement[Any] = sa.literal_column(str(DAY_MICROSECONDS))
    packed_time = (
        day.op("*")(total)
        .op("+")(seconds.op("*")(sa.literal_column("1000000")))
        .op("+")(sa.func.microsecond(column))
    )
    return sa.cast(packed_time, sa.BigInteger).label(column.name)


def fit(frame: pl.DataFrame, read: Read, columns: Sequence[sa.ColumnElement[Any]]) -> Table:
    """Cast a frame to the declared types.

    Args:
        frame: what the driver returned; dates and times may be packed, or text.
        read: the read.
        columns: the columns that it selected.

    Returns:
        The records that fit, and those that do not.

    """
    schema = {column.name: polars_type(column.type) for column in columns}
    casted = frame.select(
        normalised(_cast(pl.col(c.name), frame.schema[c.name], schema[c.name]), c).alias(c.name)
        for c in columns
    )
    bad = {
        name: mask
        for name, declared in schema.items()
        if frame.schema[name] != declared and casted[name].null_count() > frame[name].null_count()
        if (mask := _unfit(frame[name], casted[name])).any()
    }
    if not bad:
        return casted, []
    key = pl.concat_str([pl.col(k).cast(pl.String) for k in _record_key(read)], separator="/")
    set_aside = [
        SetAside(
            read.table.name, record, name, _as_written(value, schema[name]),
            f"is not a {'date' if schema[name].is_temporal() else 'number'}",
        )
        for name, mask in bad.items()
        for record, value in frame.filter(mask).select(key.alias("key"), value=name).iter_rows()
    ]  # fmt: skip
    return casted.filter(~pl.any_horizontal(bad.values())), set_aside


def _unfit(raw: pl.Series, casted: pl.Series) -> pl.Series:
    """Which values were lost. A date without a day means that there is none."""
    lost = raw.is_not_null() & casted.is_null()
    if casted.dtype != pl.Date:
        return lost
    return lost & ((raw != 0) if raw.dtype.is_integer() else (raw.str.slice(0, 10) != ZERO_DATE))


ZERO_DATE = "0000-00-00"


def _cast(column: pl.Expr, actual: pl.DataType, declared: pl.DataType) -> pl.Expr:
    if actual == declared:
        return column
    if actual.is_integer() and declared == pl.Date:
        return _unpacked_day(column)
    if actual.is_integer() and declared == pl.Datetime:
        time = pl.duration(microseconds=column % DAY_MICROSECONDS)
        return _unpacked_day(column // DAY_MICROSECONDS).cast(pl.Datetime("us")) + time
    if actual == pl.String and declared == pl.Date:
        return column.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    if actual == pl.String and declared == pl.Datetime:
        return column.str.to_datetime(strict=False)
    if actual == pl.String and declared == pl.Boolean:
        return column.cast(pl.Int64, strict=False) != 0
    if actual == pl.Binary and declared == pl.Boolean:
        return column != b"\x00"
    return column.cast(declared, strict=False)


def _unpacked_day(column: pl.Expr) -> pl.Expr:
    """The day of a number YYYYMMDD; null if there is no such day."""
    return column.cast(pl.String).str.zfill(8).str.to_date("%Y%m%d", strict=False)


def _as_written(value: object, declared: pl.DataType) -> str:
    """A bad value as it is in TCS."""
    if not isinstance(value, int) or not declared.is_temporal():
        return str(value)
    day, microseconds = divmod(value, DAY_MICROSECONDS) if declared != pl.Date else (value, 0)
    text = f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}"
    if declared == pl.Date:
        return text
    seconds = microseconds // 1_000_000
    return f"{text} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _record_key(read: Read) -> list[str]:
    """The columns that best identify a record: the primary key, or else the first column."""
    key = [c.name for c in read.table.primary_key.columns if c.name in read.columns]
    return key or [read.columns[0]]
