"""Idle costs little: queues are polled rarely without work, and requested work starts at once."""

import time
from pathlib import Path

import pytest
from dbos import DBOS

from tests.conftest import TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.durable import engine
from tis_sync.durable.engine import BUSY_POLL_SECONDS
from tis_sync.execution.workflow import RUNS_QUEUE
from tis_sync.settings.model import Settings

HEARTBEAT_SECONDS = 0.2
TIMEOUT_SECONDS = 20.0
LONG_SECONDS = 30.0  # an interval after which nothing was started at once


def poll_seconds() -> float:
    """How often the queue of runs is polled, according to DBOS."""
    queue = DBOS.retrieve_queue(RUNS_QUEUE)
    assert queue is not None
    return queue.polling_interval_sec


def test_an_idle_scheduler_polls_rarely_and_a_request_wakes_it_at_once(
    embedded_tcs: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE_POLL_SECONDS", LONG_SECONDS)
    demo.generate(embedded_tcs.database, demo.Size(50), TODAY)
    settings = Settings(
        home=tmp_path,
        tcs_url=embedded_tcs.url,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        night_start_hours=(0, 0),
        esr=False,
    )
    with working(settings, scheduler=True) as services:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while poll_seconds() != LONG_SECONDS:
            assert time.monotonic() < deadline
            time.sleep(HEARTBEAT_SECONDS)
        (run,) = run_job(services, "PersonOwnerRebuildJob", follow_ups=False)
        assert run.started_at is not None
        assert (run.started_at - run.created_at).total_seconds() < LONG_SECONDS / 2
        assert poll_seconds() in {BUSY_POLL_SECONDS, LONG_SECONDS}


def test_a_process_without_a_scheduler_always_polls_often(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, heartbeat_seconds=HEARTBEAT_SECONDS)
    with working(settings):
        time.sleep(3 * HEARTBEAT_SECONDS)
        assert poll_seconds() == BUSY_POLL_SECONDS
