"""Workspaces: the reads and plans that a process keeps in memory for its runs.

A workspace saves work, but correct results never depend on it. It keeps reads that serve several
partitions of a run or several runs of a night, and plans until they are applied. Workspaces are
bounded; what they do not have is read or planned again.
"""

import threading
from collections import OrderedDict
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from tis_sync.db.database import Database
from tis_sync.reconcile.index_plan import IndexPlan
from tis_sync.reconcile.table_plan import Plan
from tis_sync.tcs.key_ranges import KeyRange
from tis_sync.tcs.source import Source

RUNS_KEPT = 12  # more than a night has
NIGHTS_KEPT = 2
PLAN_BYTES_KEPT = 150_000_000


class Workspace:
    """The reads and plans of one run."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._plans: dict[KeyRange, Plan | IndexPlan] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, keys: KeyRange, plan: Plan | IndexPlan) -> None:
        """Keep a plan until it is applied, if there is room for it."""
        size = _size(plan)
        with self._lock:
            self._remove(keys)
            if self._bytes + size <= PLAN_BYTES_KEPT:
                self._plans[keys] = plan
                self._bytes += size

    def take(self, keys: KeyRange) -> Plan | IndexPlan | None:
        """Remove and return the plan of a partition; None if it was not kept."""
        with self._lock:
            return self._remove(keys)

    def _remove(self, keys: KeyRange) -> Plan | IndexPlan | None:
        plan = self._plans.pop(keys, None)
        if plan is not None:
            self._bytes -= _size(plan)
        return plan


class Workspaces:
    """The workspaces of a process, one for each run; if there are too many, the oldest is dropped.

    The runs of a night share some of their reads.

    Args:
        folder: the folder in which large tables are spooled.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workspaces: OrderedDict[str, Workspace] = OrderedDict()
        self._nights: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run_id: str, night_id: str | None, database: Database, today: date) -> Workspace:
        """Get or create the workspace of a run.

        Args:
            run_id: the run.
            night_id: the night that it belongs to, if any.
            database: TCS.
            today: the as-of date of the run.

        """
        with self._lock:
            if run_id not in self._workspaces:
                night = None
                if night_id is not None:
                    night = self._nights.setdefault(night_id, Source(database, today, self._folder))
                source = Source(database, today, self._folder, night)
                self._workspaces[run_id] = Workspace(source)
                _trim(self._workspaces, RUNS_KEPT)
                _trim(self._nights, NIGHTS_KEPT)
            return self._workspaces[run_id]

    @property
    def run_ids(self) -> list[str]:
        """The runs and nights that have something here."""
        with self._lock:
            return [*self._workspaces, *self._nights]

    def drop(self, run_id: str) -> None:
        """Drop the workspace of a run, or the reads that the runs of a night share."""
        with self._lock:
            self._workspaces.pop(run_id, None)
            self._nights.pop(run_id, None)


def _size(plan: Plan | IndexPlan) -> int:
    """The memory of a plan's frames, in bytes."""
    frames = [value for value in vars(plan).values() if isinstance(value, pl.DataFrame)]
    return int(sum(frame.estimated_size() for frame in frames))


def _trim(kept: OrderedDict[str, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
