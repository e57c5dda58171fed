"""What one process keeps in memory for a run under way: only to save work, never to be right.

Reads serve several partitions of a run, and several runs of a night; a plan made in the planning
phase is applied in the next without being made again, where the same process gets the partition.
Both are bounded, and both may be missing: then they are made again.
"""

import threading
from collections import OrderedDict
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.reconcile.index import IndexPlan
from tis_sync.reconcile.plan import Plan
from tis_sync.tcs.read import KeyRange
from tis_sync.tcs.source import Source

RUNS_KEPT = 12  # a night has nine
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
        """Keep a plan for a while, if there is room."""
        frames = [v for v in vars(plan).values() if isinstance(v, pl.DataFrame)]
        size = int(sum(frame.estimated_size() for frame in frames))
        with self._lock:
            if self._bytes + size <= PLAN_BYTES_KEPT:
                self._plans[keys] = plan
                self._bytes += size

    def take(self, keys: KeyRange) -> Plan | IndexPlan | None:
        """Take out the plan of a partition, if it was kept."""
        with self._lock:
            return self._plans.pop(keys, None)


class Workspaces:
    """The workspaces of a process, a run each; the oldest goes when there are many.

    The runs of a night share some of their reads.

    Args:
        folder: where large tables are kept meanwhile.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workspaces: OrderedDict[str, Workspace] = OrderedDict()
        self._nights: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run_id: str, night_id: str | None, engine: sa.Engine, today: date) -> Workspace:
        """The workspace of a run, which may belong to a night."""
        with self._lock:
            if run_id not in self._workspaces:
                night = None
                if night_id is not None:
                    night = self._nights.setdefault(night_id, Source(engine, today, self._folder))
                source = Source(engine, today, self._folder, night)
                self._workspaces[run_id] = Workspace(source)
                _trim(self._workspaces, RUNS_KEPT)
                _trim(self._nights, NIGHTS_KEPT)
            return self._workspaces[run_id]

    def drop(self, run_id: str) -> None:
        """Forget a run, or a night."""
        with self._lock:
            self._workspaces.pop(run_id, None)
            self._nights.pop(run_id, None)


def _trim(kept: OrderedDict[str, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
