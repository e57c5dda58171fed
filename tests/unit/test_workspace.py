"""What a process keeps in memory for its runs is bounded, counted, and freed when they end."""

import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import NOW, TODAY
from tests.running import working
from tis_sync.jobs.base import AsOf
from tis_sync.reconcile import workspace as module
from tis_sync.reconcile.index_plan import IndexPlan
from tis_sync.reconcile.workspace import Workspace, Workspaces
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.settings.model import Settings
from tis_sync.tcs.key_ranges import KeyRange
from tis_sync.tcs.source import Source


def plan(rows: int) -> IndexPlan:
    frame = pl.DataFrame({"id": range(rows)})
    return IndexPlan(frame, frame.clear(), rows, 0)


def workspace(tmp_path: Path) -> Workspace:
    with working(Settings(home=tmp_path)) as s:
        return Workspace(Source(s.tcs(), TODAY, tmp_path))


def test_the_room_of_a_plan_that_was_taken_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAN_BYTES_KEPT", 10_000)  # room for one plan of 1,000 rows
    kept = workspace(tmp_path)
    for number in range(5):
        keys = KeyRange(number, number + 1)
        kept.keep(keys, plan(1_000))
        kept.keep(KeyRange(100, 101), plan(1_000))
        assert kept.take(KeyRange(100, 101)) is None  # there was no room
        assert kept.take(keys) is not None
        assert kept.take(keys) is None


def test_a_plan_that_is_made_again_replaces_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAN_BYTES_KEPT", 10_000)
    kept, keys = workspace(tmp_path), KeyRange(1, 2)
    for _ in range(3):
        kept.keep(keys, plan(1_000))
    taken = kept.take(keys)
    assert taken is not None
    assert taken.considered == 1_000


def test_the_workspaces_of_ended_runs_are_dropped_whoever_ended_them(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, heartbeat_seconds=0.1)
    with working(settings) as s:
        runs = {}
        for job, night in (
            ("PersonOwnerRebuildJob", "a night"),
            ("PostFundingStatusSyncJob", None),
        ):
            run = s.history.request(
                job,
                trigger=Trigger.MANUAL,
                requested_by="ann",
                as_of=AsOf.on(TODAY),
                options=RunOptions(),
                now=s.clock(),
            )
            s.history.begin(run.id, NOW)
            s.workspaces.of(run.id, night, s.tcs(), date(2026, 3, 2))
            runs[job] = run.id
        s.history.end(runs["PersonOwnerRebuildJob"], RunState.SUCCEEDED, NOW)  # as another worker
        deadline = time.monotonic() + 20
        while s.workspaces.run_ids != [runs["PostFundingStatusSyncJob"]]:
            assert time.monotonic() < deadline, s.workspaces.run_ids
            time.sleep(0.05)


def test_a_process_keeps_the_workspaces_of_few_runs(tmp_path: Path) -> None:
    with working(Settings(home=tmp_path)) as s:
        workspaces = Workspaces(tmp_path)
        for number in range(50):
            workspaces.of(str(number), f"night {number}", s.tcs(), TODAY)
        assert len(workspaces.run_ids) == module.RUNS_KEPT + module.NIGHTS_KEPT
