"""A TCS made of plain rows: fill a database, and compare its contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.jobs.base import AsOf, IndexTarget, Job, TableTarget
from tis_sync.reconcile import index_plan as index_plans
from tis_sync.reconcile import table_apply as table_plans
from tis_sync.reconcile.table_plan import Plan, difference
from tis_sync.search.model import SearchEngine
from tis_sync.tcs import tables as t
from tis_sync.tcs.fit import SetAside
from tis_sync.tcs.key_ranges import key_ranges
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Source

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]

LOCKS = ["tis-sync test 0", "tis-sync test 1"]  # of transactions that write
MOMENT = datetime(2026, 1, 1)  # noqa: DTZ001  as TCS keeps it
FILLERS: dict[str, Row] = {
    "Person": {"addedDate": MOMENT, "amendedDate": MOMENT},
    "ContactDetails": {"amendedDate": MOMENT},
    "GmcDetails": {"amendedDate": MOMENT},
    "GdcDetails": {"amendedDate": MOMENT},
    "ProgrammeMembership": {"amendedDate": MOMENT},
    "CurriculumMembership": {"amendedDate": MOMENT, "curriculumId": 1},
    "ProgrammePost": {"addedDate": MOMENT},
    "Post": {"legacy": False},
    "Placement": {"lifecycleState": "APPROVED"},
}


@dataclass
class World:
    """A database with the tables of TCS."""

    database: Database
    url: str

    def create(self) -> None:
        with self.database.write() as connection:
            t.metadata.create_all(connection)

    def fill(self, rows: Rows) -> None:
        """Replace everything by these rows; columns left out are null, or a filler."""
        with self.database.write() as connection:
            for table in t.metadata.sorted_tables:
                connection.execute(sa.delete(table))
            for name, records in rows.items():
                if records:
                    table = t.metadata.tables[name]
                    columns = {c.name: None for c in table.columns if not c.primary_key}
                    filled = [columns | FILLERS.get(name, {}) | row for row in records]
                    connection.execute(sa.insert(table), filled)

    def rows(self, table: sa.Table, *columns: str) -> list[tuple[Any, ...]]:
        """Some columns of a table, sorted."""
        with self.database.read() as connection:
            found = connection.execute(sa.select(*(table.c[name] for name in columns)))
            return sorted((tuple(row) for row in found), key=repr)

    def execute(self, statement: sa.Executable | str) -> None:
        with self.database.write() as connection:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)

    def execute_loosely(self, statement: str) -> None:
        """Execute a statement that writes days that do not exist, as some SQL modes allow."""
        with self.database.write() as connection:
            if self.database.dialect != "sqlite":
                connection.exec_driver_sql("SET sql_mode = 'ALLOW_INVALID_DATES'")
            connection.exec_driver_sql(statement)
            if self.database.dialect != "sqlite":
                connection.exec_driver_sql("SET sql_mode = DEFAULT")

    def settle(self, job: Job, as_of: AsOf, *, width: int = 400_000) -> list[Plan]:
        """Make the target of a table job as desired, without a run; return the plans applied."""
        target = job.target
        assert isinstance(target, TableTarget)
        source = Source(self.database, as_of.today)
        spec = target.spec
        columns = [
            spec.partition_column,
            *(r.partition_column for r in target.reads if r.partition_column is not None),
        ]
        plans = []
        for keys in key_ranges(self.database, columns, width):
            own = Read(spec.table, spec.columns, partition_column=spec.partition_column)
            frames = source.load((*target.reads, own), keys).frames
            plan = difference(
                spec,
                target.desired(frames, as_of),
                frames[spec.table.name].lazy(),
                target.allowed(frames) if target.allowed else None,
            )
            table_plans.apply(self.database, spec, plan, lambda: None, LOCKS)
            plans.append(plan)
        return plans

    def views(self, job: Job, as_of: AsOf) -> tuple[pl.DataFrame, list[SetAside]]:
        """The views of an index job, and the records that it could not use."""
        target = job.target
        assert isinstance(target, IndexTarget)
        source = Source(self.database, as_of.today)
        loaded = [
            source.load(target.reads, keys)
            for keys in key_ranges(self.database, [target.partition_column], width=1)
        ]
        views = pl.concat([target.views(part.frames, as_of).collect() for part in loaded])
        return views, [record for part in loaded for record in part.set_aside]

    def build(self, job: Job, today: date, search: SearchEngine, build: str) -> str:
        """Build and publish an index of what the database contains; return its name."""
        target = job.target
        assert isinstance(target, IndexTarget)
        views, _ = self.views(job, AsOf.on(today))
        index = search.begin(target.spec, build)
        assert not search.write(index, index_plans.encoded(views, target.form)).refused
        search.refresh(index)
        search.publish(target.spec, index)
        return index
