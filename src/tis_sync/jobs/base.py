"""The declaration of a job: its name, time, target, dependencies and follow-ups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.reconcile.table_plan import TableSpec
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import IndexSpec
from tis_sync.tcs.needs import Needs, Privilege, columns_of, merged, of_reads, of_writes
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


@dataclass(frozen=True)
class AsOf:
    """The dates that a run covers.

    Attributes:
        today: the UTC date that "current", "past" and "future" refer to.
        first: the first day that a dated job covers; earlier than `last` after a missed night.
        last: the last day (inclusive) that a dated job covers.
        every: whether a dated job considers every record, whatever its dates (`--date ANY`).

    """

    today: date
    first: date
    last: date
    every: bool = False

    @classmethod
    def on(cls, today: date) -> "AsOf":
        """The dates of an ordinary run: only today."""
        return cls(today, today, today)

    @property
    def ended_first(self) -> date:
        """The day before `first`: what ended on that day is past on `first`."""
        return self.first - timedelta(days=1)

    @property
    def ended_last(self) -> date:
        """The day before `last`."""
        return self.last - timedelta(days=1)


@dataclass(frozen=True)
class TableTarget:
    """A derived table or column of TCS, declared by its desired state.

    Attributes:
        spec: the table, its key and value columns, and which changes are allowed.
        reads: what `desired` and `allowed` read from TCS.
        desired: the records that should exist: the key and value columns of the spec.
        allowed: keys of another job, which may stay although this job does not desire them. None:
            there are none.

    """

    spec: TableSpec
    reads: tuple[Read, ...]
    desired: Callable[[Frames, AsOf], pl.LazyFrame]
    allowed: Callable[[Frames], pl.LazyFrame] | None = None


@dataclass(frozen=True)
class IndexTarget:
    """A search index, declared by the documents that it should contain.

    Attributes:
        spec: alias, fields and filters.
        reads: what `views` reads from TCS.
        views: the desired documents: a row per document, with `documentId` (String) and the fields.
        form: how a view becomes a document.
        partition_column: the column whose keys are divided into partitions.

    """

    spec: IndexSpec
    reads: tuple[Read, ...]
    views: Callable[[Frames, AsOf], pl.LazyFrame]
    form: DocumentForm
    partition_column: sa.Column[int]


@dataclass(frozen=True)
class Job:
    """One of the nightly jobs (names, times and order: docs/jobs.md).

    Attributes:
        name: unique.
        old_names: the managed bean and the method in the Java service; both also name the job.
        lock_name: the job's row in the Java service's table `shedlock`.
        at: the earliest time of day, UTC.
        description: what the job does; a phrase without a full stop.
        impact: what users see until the job has run; a phrase in lower case, for alarms.
        target: what the job keeps correct.
        depends_on: the jobs that must end before this one starts.
        follow_ups: the jobs to run, in this order, after this one has changed something.
        dated: whether it covers single days and catches up on missed nights.

    """

    name: str
    old_names: tuple[str, str]
    lock_name: str
    at: time
    description: str
    impact: str
    target: TableTarget | IndexTarget
    depends_on: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()
    dated: bool = False

    @property
    def key(self) -> str:
        """The name with a lower-case first letter, as in the Java service's HTTP calls."""
        return self.name[0].lower() + self.name[1:]

    def needs(self) -> Needs:
        """What the job reads and writes in TCS."""
        target = self.target
        reads = of_reads(target.reads)
        if isinstance(target, IndexTarget):
            column = target.partition_column
            return merged([reads, of_reads([Read(_table(column), (column.name,))])])
        spec = target.spec
        existing = Read(spec.table, spec.columns, partition_column=spec.partition_column)
        written = (*spec.key, *spec.values)
        writes = [of_writes(spec.table, spec.values, Privilege.UPDATE)] if spec.values else []
        if not spec.columns_only:
            writes.append(of_writes(spec.table, written, Privilege.INSERT, Privilege.DELETE))
        return merged([reads, of_reads([existing]), *writes])

    def needed(self) -> Mapping[sa.Table, list[str]]:
        """The names of the TCS columns that the job reads or writes, by table."""
        return columns_of(self.needs())


def _table(column: sa.Column[int]) -> sa.Table:
    table = column.table
    assert isinstance(table, sa.Table)
    return table
