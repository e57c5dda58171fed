"""Registrations and claims: a worker that comes back keeps what it began since, and only that."""

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from tests.conftest import NOW
from tests.demo_runs import TRUSTS, request, services, settings
from tests.running import ticking, wait_for, working
from tests.waiting import eventually
from tis_sync.durable.engine import Engine, launch
from tis_sync.execution import turn
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.request import request_night
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.workers import cluster

__all__ = ["services", "settings"]


def claimed(s: Services) -> None:
    """Have another worker declare this one dead."""
    with s.state.write() as connection:
        connection.execute(sa.update(t.worker).values(claimed_at=s.clock(), claimed_by="other"))


def test_a_worker_is_registered_before_it_takes_any_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[tuple[str | None, list[str]]] = []
    other = Services(settings, ticking(NOW))

    def launching(engine: Engine) -> None:
        registered.append((_registration(other), other.workers.alive(all_processes=True)))
        assert other.workers.alive() == []  # it cannot do what others would leave to it
        launch(engine)

    monkeypatch.setattr(cluster, "launch", launching)
    with working(settings, scheduler=True) as s:
        assert registered == [(s.registration, [s.worker_id])]
        assert s.registration is not None
        assert s.workers.alive() == [s.worker_id]
    other.close()


def _registration(s: Services) -> str | None:
    with s.state.read() as connection:
        return connection.scalar(sa.select(t.worker.c.registration))


def test_work_that_waits_for_a_worker_is_carried_out_while_the_worker_still_starts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = settings.model_copy(update={"partition_keys": 64})
    with working(several):
        pass  # now the tables of DBOS exist
    waiting = Services(several, ticking(NOW))
    night = request_night(waiting, trigger=Trigger.START, requested_by="t", options=RunOptions())
    start_night(waiting, night.id)

    def launching(engine: Engine) -> None:
        launch(engine)
        eventually(lambda: not waiting.history.all_active())

    monkeypatch.setattr(cluster, "launch", launching)
    with working(several):
        runs = [waiting.history.get(night.id), *waiting.history.children(night.id)]
        assert {run.error for run in runs} == {None}
        steps = DBOS.list_workflow_steps(night.id)
        assert len([step for step in steps if step["child_workflow_id"]]) == len(JOBS)
    waiting.close()


@pytest.mark.alone
def test_a_process_that_has_nothing_to_do_ends_at_once(settings: Settings) -> None:
    durations = []
    for _ in range(3):  # of which the best counts, because the machine does other work too
        with working(settings):
            started = time.monotonic()
        durations.append(time.monotonic() - started)
    assert min(durations) < 0.5, durations


def test_a_process_that_cannot_start_leaves_no_registration(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(settings):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(cluster, "launch", fail)
    with pytest.raises(OSError, match="no space left"), working(settings):
        pass
    s = Services(settings)
    assert s.workers.alive(all_processes=True) == []
    s.close()


def test_a_claim_ends_when_the_worker_comes_back(services: Services) -> None:
    claimed(services)
    assert services.workers.holds_claim("other", services.worker_id)
    cluster.refresh_heartbeat(services, schedules=False)
    assert not services.workers.holds_claim("other", services.worker_id)


@pytest.mark.parametrize("began", ["before it came back", "meanwhile", "after it came back"])
def test_a_worker_that_comes_back_puts_back_only_what_it_began_before(
    services: Services, began: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, wait = threading.Event(), turn.wait_for_turn

    def waiting(s: Services, run_id: str) -> str | None:
        release.wait(60)
        return wait(s, run_id)

    monkeypatch.setattr(turn, "wait_for_turn", waiting)
    run = request(services, TRUSTS)

    def begin() -> None:
        start_runs(services, [run.id])
        eventually(lambda: (row := DBOS.get_workflow_status(run.id)) and row.status == "PENDING")

    def register(s: Services, *, schedules: bool) -> None:
        begin()
        register_worker(s, schedules=schedules)
        monkeypatch.setattr(cluster, "time", time)

    register_worker = cluster.register_worker
    if began == "meanwhile":
        monkeypatch.setattr(cluster, "register_worker", register)
    else:
        begin()
    claimed(services)
    if began != "before it came back":
        monkeypatch.setattr(cluster, "time", _Epoch)
    cluster.refresh_heartbeat(services, schedules=False)
    lines = [line.text for line in services.history.lines(run.id)]
    status = DBOS.get_workflow_status(run.id)
    assert status is not None
    assert (status.queue_name is None) == began.startswith("after"), lines
    release.set()
    assert wait_for(services, run.id)[0].state == RunState.SUCCEEDED


class _Epoch:
    """A clock that shows a moment before everything began."""

    @staticmethod
    def time() -> float:
        return 0.0
