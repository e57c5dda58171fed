"""What a job is: a name, a time, what it waits for, what follows it, and what it makes true."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.reconcile.plan import TableTarget
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import IndexSpec
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames


@dataclass(frozen=True)
class AsOf:
    """The dates that a run is made for.

    Attributes:
        today: the UTC date that "current", "past" and "future" refer to.
        first: the first day that a dated job makes good, included.
        last: the last such day, included; a missed night widens the two.
        every: a dated job looks at every record, whatever its dates (`--date ANY`).

    """

    today: date
    first: date
    last: date
    every: bool = False

    @classmethod
    def on(cls, today: date) -> "AsOf":
        """The dates of an ordinary run: just `today`."""
        return cls(today, today, today)

    @property
    def ended_first(self) -> date:
        """The day before `first`: what ended on it counts as ended on `first`."""
        return self.first - timedelta(days=1)

    @property
    def ended_last(self) -> date:
        """The day before `last`."""
        return self.last - timedelta(days=1)


@dataclass(frozen=True)
class TableProduct:
    """A derived table or column of TCS, declared by its desired state.

    Attributes:
        target: the table, its key and value columns, and what may be done to it.
        reads: what `desired` needs from TCS.
        desired: the records that should exist: the target's key and value columns.
        allowed: keys that may stay although not desired (another job's); None: no others.

    """

    target: TableTarget
    reads: tuple[Read, ...]
    desired: Callable[[Frames, AsOf], pl.LazyFrame]
    allowed: Callable[[Frames], pl.LazyFrame] | None = None


@dataclass(frozen=True)
class IndexProduct:
    """A search index, declared by the documents that it should hold.

    Attributes:
        spec: alias, mapping and searchable fields.
        reads: what `views` needs from TCS.
        views: what the documents should say, a row a document, with its `documentId`.
        form: how a view becomes a document.
        keys: the column whose range is cut into partitions.

    """

    spec: IndexSpec
    reads: tuple[Read, ...]
    views: Callable[[Frames, AsOf], pl.LazyFrame]
    form: DocumentForm
    keys: sa.Column[int]


@dataclass(frozen=True)
class Job:
    """One of the nightly jobs (names, times and order: docs/jobs.md).

    Attributes:
        name: the job's name; `key` is the same with a small first letter, as the old page had it.
        old_names: managed bean and method of the Java service; accepted wherever a job is named.
        lock_name: the job's row in the Java service's table `shedlock`.
        at: earliest time of day, UTC.
        makes: what it makes true, for people.
        stale: what users see while it has not run, for alarms.
        product: the declared state.
        depends_on: jobs that have to end before this one starts.
        follow_ups: jobs to run, in this order, when this one changed something.
        dated: it makes single days good and catches up over missed nights.

    """

    name: str
    old_names: tuple[str, str]
    lock_name: str
    at: time
    makes: str
    stale: str
    product: TableProduct | IndexProduct
    depends_on: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()
    dated: bool = False

    @property
    def key(self) -> str:
        """The job's key in the old page's HTTP calls."""
        return self.name[0].lower() + self.name[1:]

    def needed(self) -> Mapping[sa.Table, set[str]]:
        """The TCS columns that the job reads or writes, by table."""
        columns: dict[sa.Table, set[str]] = {}
        for read in self.product.reads:
            columns.setdefault(read.table, set()).update(read.columns)
            if read.by is not None:
                columns.setdefault(read.by.table, set()).add(read.by.name)
            if read.through is not None:
                columns.setdefault(read.through[0], set())
        if isinstance(self.product, TableProduct):
            target = self.product.target
            columns.setdefault(target.table, set()).update(target.columns)
        return columns
