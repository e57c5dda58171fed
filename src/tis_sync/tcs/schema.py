"""The schema check: does a database have the tables and columns of TCS that we rely on?"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import SchemaError

# The SQL types that can hold the values of a declared type. Numbers are not listed: a number column
# may become a text column, and reads set aside the records whose text is not a number.
COMPATIBLE: dict[type[sa.types.TypeEngine[Any]], tuple[type[sa.types.TypeEngine[Any]], ...]] = {
    sa.Date: (sa.Date, sa.DateTime),
    sa.DateTime: (sa.DateTime, sa.Date),
}
MISSING = "is missing"


@dataclass(frozen=True)
class SchemaProblem:
    """A table or column that is missing or has the wrong type.

    Attributes:
        table: the table.
        column: the column. None: the whole table.
        problem: what is wrong with it, as a predicate ("is missing").

    """

    table: str
    column: str | None
    problem: str

    @property
    def is_missing(self) -> bool:
        """Whether the table or column does not exist, rather than having the wrong type."""
        return self.problem == MISSING

    def __str__(self) -> str:
        where = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{where} {self.problem}"


def check(database: Database, needed: Mapping[sa.Table, Collection[str]]) -> list[SchemaProblem]:
    """Find what a database lacks.

    As in MySQL on Linux, the names of tables are case-sensitive, and those of columns are not.

    Args:
        database: TCS.
        needed: the names of the needed columns, by table.

    Returns:
        The problems, in the order of `needed`; empty if the database has everything.

    """
    problems: list[SchemaProblem] = []
    with database.read() as connection:
        inspector = sa.inspect(connection)
        present = set(inspector.get_table_names()) | set(inspector.get_view_names())
        for table, columns in needed.items():
            if table.name not in present:
                problems.append(SchemaProblem(table.name, None, MISSING))
                continue
            actual = {c["name"].lower(): c["type"] for c in inspector.get_columns(table.name)}
            for column in columns:
                column_type = actual.get(column.lower())
                if column_type is None:
                    problems.append(SchemaProblem(table.name, column, MISSING))
                elif problem := _misfit(table.c[column].type, column_type):
                    problems.append(SchemaProblem(table.name, column, problem))
    return problems


def require(database: Database, needed: Mapping[sa.Table, Collection[str]]) -> None:
    """Check that a database has everything that is needed.

    Args:
        database: TCS.
        needed: the names of the needed columns, by table.

    Raises:
        SchemaError: something is missing; the message names all of it.

    """
    problems = check(database, needed)
    if problems:
        raise SchemaError(
            f"TCS at {database.address} lacks what this job needs: "
            f"{'; '.join(map(str, problems))}. See all differences: `tis-sync schema check`."
        )


def text_limits(database: Database, table: sa.Table) -> dict[str, int]:
    """The maximum length, in characters, of each text column of a table in the database.

    SQLite does not enforce these lengths, but reports them, so we apply them there too.
    """
    with database.read() as connection:
        columns = sa.inspect(connection).get_columns(table.name)
    limits = {c["name"]: getattr(c["type"], "length", None) for c in columns}
    return {name: length for name, length in limits.items() if isinstance(length, int)}


def _misfit(declared: sa.types.TypeEngine[object], actual: sa.types.TypeEngine[object]) -> str:
    """Why a column of the actual type cannot serve as the declared type; empty if it can."""
    for kind, accepted in COMPATIBLE.items():
        if isinstance(declared, kind) and not isinstance(actual, (*accepted, sa.String)):
            return f"has type {actual}, not {declared}"
    return ""
