"""Columns: the Polars types of TCS's columns, and how texts in them are compared.

MySQL compares texts without regard to case and to blanks at the end. Polars and SQLite do not, so
two kinds of text columns are declared in `tis_sync.tcs.tables` and normalised when they are read:

- a **key** refers to a record ("9F2c " and "9f2C" are the same): lower case, without blanks at the
  end;
- a **code** is one of a few words ("Primary" is PRIMARY): upper case, without blanks at the end.

All other texts are data, and read as they are.
"""

from typing import Any

import polars as pl
import sqlalchemy as sa

KIND = "text"  # in the `info` of a column
KEY: dict[str, str] = {KIND: "key"}
CODE: dict[str, str] = {KIND: "code"}


def is_key(column: sa.ColumnElement[Any]) -> bool:
    """Whether a column is declared as a text key."""
    return _kind(column) == KEY[KIND]


def is_code(column: sa.ColumnElement[Any]) -> bool:
    """Whether a column is declared as a code."""
    return _kind(column) == CODE[KIND]


def normalised(values: pl.Expr, column: sa.ColumnElement[Any]) -> pl.Expr:
    """The texts of a column in the form in which they are compared."""
    if is_key(column):
        return values.str.strip_chars_end(" ").str.to_lowercase()
    if is_code(column):
        return as_code(values)
    return values


def as_code(values: pl.Expr) -> pl.Expr:
    """Texts in the form of a code."""
    return values.str.strip_chars_end(" ").str.to_uppercase()


def comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The same in SQL, for conditions: `comparable(column) == "PRIMARY"`.

    The result does not depend on the collation of the column. It cannot use an index.
    """
    if is_key(column):
        return sa.func.lower(sa.func.rtrim(column))
    if is_code(column):
        return sa.func.upper(sa.func.rtrim(column))
    return column


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


def _kind(column: sa.ColumnElement[Any]) -> str | None:
    kind = getattr(column, "info", {}).get(KIND)
    return None if kind is None else str(kind)
