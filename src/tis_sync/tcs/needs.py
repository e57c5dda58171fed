"""What is needed of TCS: which columns are read, and which tables and columns are written.

Jobs and the export declare their needs; the check of the schema, `tis-sync doctor` and the check at
the start of a run use the same list.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.db.transient import Cause, cause_of
from tis_sync.tcs.read import Read


class Privilege(StrEnum):
    """What a user of a database may do with a table."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


Needs = Mapping[tuple[sa.Table, Privilege], frozenset[str]]
"""The columns of a table that are read, inserted or updated; for DELETE there are none."""


@dataclass(frozen=True)
class Lacking:
    """A privilege that the user lacks.

    Attributes:
        privilege: what may not be done.
        table: with which table.
        reason: what the server says.

    """

    privilege: Privilege
    table: str
    reason: str


def of_reads(reads: Iterable[Read]) -> Needs:
    """What reads need: the columns selected, and those in conditions, joins and partitions."""
    return merged(
        {(table, Privilege.SELECT): frozenset(columns)}
        for read in reads
        for table, columns in read.needed().items()
    )


def of_writes(table: sa.Table, columns: Iterable[str], *privileges: Privilege) -> Needs:
    """What it takes to write some columns of a table."""
    return {
        (table, privilege): frozenset() if privilege == Privilege.DELETE else frozenset(columns)
        for privilege in privileges
    }


def merged(needs: Iterable[Needs]) -> Needs:
    """All needs together."""
    union: dict[tuple[sa.Table, Privilege], frozenset[str]] = {}
    for one in needs:
        for key, columns in one.items():
            union[key] = union.get(key, frozenset()) | columns
    return union


def columns_of(needs: Needs) -> dict[sa.Table, list[str]]:
    """The names of all columns that are needed, by table, sorted."""
    names: dict[sa.Table, set[str]] = {}
    for (table, _), columns in needs.items():
        names.setdefault(table, set()).update(columns)
    return {table: sorted(columns) for table, columns in names.items()}


def lacking(database: Database, needs: Needs) -> list[Lacking]:
    """Find the privileges that the user of a database lacks.

    For each need, a statement is run that affects no rows: the server still checks the privileges.

    Args:
        database: TCS.
        needs: what is needed.

    Returns:
        The privileges, in the order of `needs`; empty if there are all.

    Raises:
        UnreachableError: the database does not answer.
        sqlalchemy.exc.ProgrammingError: a table or column is missing.

    """
    found: list[Lacking] = []
    for (table, privilege), columns in needs.items():
        with database.read() as connection:
            try:
                connection.execute(_harmless(table, privilege, columns))
            except sa.exc.DBAPIError as error:
                if cause_of(error) != Cause.NO_PRIVILEGE:
                    raise
                found.append(Lacking(privilege, table.name, " ".join(str(error.orig).split())))
            connection.rollback()
    return found


def _harmless(table: sa.Table, privilege: Privilege, names: frozenset[str]) -> sa.Executable:
    columns = [column for column in table.columns if column.name in names]
    no_row = sa.false()
    match privilege:
        case Privilege.SELECT:
            return sa.select(*columns).where(no_row)
        case Privilege.INSERT:
            values = [sa.literal(None, column.type) for column in columns]
            return sa.insert(table).from_select(columns, sa.select(*values).where(no_row))
        case Privilege.UPDATE:
            same = {column.name: sa.literal(None, column.type) for column in columns}
            return sa.update(table).where(no_row).values(same)
        case Privilege.DELETE:
            return sa.delete(table).where(no_row)
