"""Does a database have the tables and columns of TCS that we rely on?"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tis_sync.errors import SchemaError
from tis_sync.tcs.connect import explained, shown

# Which kinds of SQL type hold which kind of declared value; text that should be a number is not
# listed, because reads set single unfit values aside (incidents: a code that became a text).
COMPATIBLE: dict[type[sa.types.TypeEngine[Any]], tuple[type[sa.types.TypeEngine[Any]], ...]] = {
    sa.Date: (sa.Date, sa.DateTime),
    sa.DateTime: (sa.DateTime, sa.Date),
}


@dataclass(frozen=True)
class Finding:
    """One thing that a database lacks: the table, the column (None: the whole table), and why."""

    table: str
    column: str | None
    problem: str

    def __str__(self) -> str:
        where = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{where} {self.problem}"


def check(engine: sa.Engine, needed: Mapping[sa.Table, Collection[str]]) -> list[Finding]:
    """What the database lacks of `needed` (columns by table), in the order asked; empty: nothing.

    Names are compared as the live MySQL does it on Linux: tables by case, columns without.
    """
    findings: list[Finding] = []
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"):
        inspector = sa.inspect(engine)
        present = set(inspector.get_table_names()) | set(inspector.get_view_names())
        for table, columns in needed.items():
            if table.name not in present:
                findings.append(Finding(table.name, None, "is missing"))
                continue
            actual = {c["name"].lower(): c["type"] for c in inspector.get_columns(table.name)}
            for column in columns:
                found = actual.get(column.lower())
                if found is None:
                    findings.append(Finding(table.name, column, "is missing"))
                elif problem := _misfit(table.c[column].type, found):
                    findings.append(Finding(table.name, column, problem))
    return findings


def require(engine: sa.Engine, needed: Mapping[sa.Table, Collection[str]]) -> None:
    """Raise `SchemaError`, naming everything that is missing, unless the database has it all."""
    findings = check(engine, needed)
    if findings:
        raise SchemaError(
            f"TCS at {shown(engine.url)} lacks what this job needs: "
            f"{'; '.join(map(str, findings))}. Compare with `tis-sync schema check`."
        )


def text_limits(engine: sa.Engine, table: sa.Table) -> dict[str, int]:
    """The longest text that each column of the table takes, in characters, as the database has it.

    SQLite does not enforce lengths, but reports them as declared, so that they hold there too.
    """
    found = sa.inspect(engine).get_columns(table.name)
    limits = {c["name"]: getattr(c["type"], "length", None) for c in found}
    return {name: length for name, length in limits.items() if isinstance(length, int)}


def _misfit(declared: sa.types.TypeEngine[object], found: sa.types.TypeEngine[object]) -> str:
    """Why values of the column found cannot serve for the declared one; empty: they can."""
    for kind, accepted in COMPATIBLE.items():
        if isinstance(declared, kind) and not isinstance(found, (*accepted, sa.String)):
            return f"has type {found}, not {declared}"
    return ""
