"""A TCS made of plain rows: to fill a database, and to compare what is in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.jobs.base import AsOf, IndexProduct, Job, TableProduct
from tis_sync.reconcile import index as index_plans
from tis_sync.reconcile import table as table_plans
from tis_sync.reconcile.partitions import partitions
from tis_sync.reconcile.plan import Plan, difference
from tis_sync.search.model import SearchEngine
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import SetAside, Source
from tis_sync.tcs.write import writing

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]

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

    engine: sa.Engine
    url: str

    def create(self) -> None:
        with writing(self.engine) as connection:
            t.metadata.create_all(connection)

    def fill(self, rows: Rows) -> None:
        """Replace everything in the database by these rows (columns left out: null or filler)."""
        with writing(self.engine) as connection:
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
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(*(table.c[name] for name in columns)))
            return sorted((tuple(row) for row in found), key=repr)

    def execute(self, statement: sa.Executable | str) -> None:
        with writing(self.engine) as connection:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)

    def settle(self, job: Job, as_of: AsOf, *, width: int = 400_000) -> list[Plan]:
        """Make a table job's product right, without runs and history; the plans applied."""
        product = job.product
        assert isinstance(product, TableProduct)
        source = Source(self.engine, as_of.today)
        target = product.target
        columns = [target.by, *(r.by for r in product.reads if r.by is not None)]
        plans = []
        for keys in partitions(self.engine, columns, width):
            own = Read(target.table, target.columns, by=target.by)
            frames = source.load((*product.reads, own), keys).frames
            plan = difference(
                target,
                product.desired(frames, as_of),
                frames[target.table.name].lazy(),
                product.allowed(frames) if product.allowed else None,
            )
            table_plans.apply(self.engine, target, plan)
            plans.append(plan)
        return plans

    def views(self, job: Job, as_of: AsOf) -> tuple[pl.DataFrame, list[SetAside]]:
        """What an index job's documents should say, and what it could not use."""
        product = job.product
        assert isinstance(product, IndexProduct)
        source = Source(self.engine, as_of.today)
        loaded = [
            source.load(product.reads, keys) for keys in partitions(self.engine, [product.keys], 16)
        ]
        views = pl.concat([product.views(part.frames, as_of).collect() for part in loaded])
        return views, [record for part in loaded for record in part.set_aside]

    def build(self, job: Job, today: date, search: SearchEngine, build: str) -> str:
        """Build and publish an index of what is in the database."""
        product = job.product
        assert isinstance(product, IndexProduct)
        views, _ = self.views(job, AsOf.on(today))
        index = search.begin(product.spec, build)
        assert not search.write(index, index_plans.encoded(views, product.form)).refused
        search.refresh(index)
        search.publish(product.spec, index)
        return index
