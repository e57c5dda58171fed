"""The regular tasks of workers: isolated, limited in time, and each monitor done by one worker."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import Clock
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import MONITOR_FAILED, Resolution
from tis_sync.alarms.monitoring import (
    MONITOR_SECONDS,
    Task,
    TaskRunner,
    close_of_gone_workers,
    release_leases,
    renew_leases,
    running_tasks,
)
from tis_sync.app import COMPONENTS
from tis_sync.errors import UnreachableError
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.workers import cluster

MINUTE = 60.0
HEARTBEAT = 5.0
MakeWorker = Callable[[], Services]


@pytest.fixture(params=["sqlite", "postgresql"])
def make_worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeWorker]:
    """Makes workers that share a state database."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    created: list[Services] = []

    def make() -> Services:
        created.append(Services(Settings(home=tmp_path, state_url=url), Clock()))
        return created[-1]

    yield make
    for services in created:
        services.close()


class Seconds:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tick(runner: TaskRunner, seconds: Seconds, by: float) -> None:
    """Let time pass, start what is due, and wait for it, unless it hangs."""
    end = seconds.now + by
    while seconds.now < end:
        seconds.now = min(end, seconds.now + HEARTBEAT)
        runner.tick()
        for progress in runner._progress:
            if progress.thread is not None and progress.task.name != "hangs":
                progress.thread.join()


def failures(s: Services) -> dict[str, str]:
    return {alarm.subject: alarm.text for alarm in s.alarms.open_alarms(MONITOR_FAILED)}


def test_a_monitor_that_fails_opens_an_alarm_and_does_not_silence_those_after_it(
    make_worker: MakeWorker,
) -> None:
    s, seconds, watched = make_worker(), Seconds(), 0
    error: Exception | None = UnreachableError("TCS does not answer; check that it is running.")

    def fail(_: Services) -> None:
        if error is not None:
            raise error

    def watch_something(_: Services) -> None:
        nonlocal watched
        watched += 1

    runner = TaskRunner(s, [Task("fails", fail), Task("works", watch_something)], seconds)
    tick(runner, seconds, MONITOR_SECONDS)
    assert watched == 1
    assert set(failures(s)) == {"fails"}
    assert failures(s)["fails"].startswith("fails failed: TCS does not answer")
    error = LookupError("a defect")
    tick(runner, seconds, MONITOR_SECONDS)
    assert watched == 2
    assert failures(s)["fails"].startswith("fails failed: LookupError: a defect.")
    error = None
    tick(runner, seconds, MONITOR_SECONDS)
    assert failures(s) == {}
    (closed,) = s.alarms.closed_alarms(10)
    assert closed.resolution == Resolution.RESOLVED


def test_a_task_that_hangs_is_reported_and_not_started_again_until_it_ends(
    make_worker: MakeWorker,
) -> None:
    s, seconds = make_worker(), Seconds()
    release, starts, watched = threading.Event(), 0, 0

    def hang(_: Services) -> None:
        nonlocal starts
        starts += 1
        release.wait()

    def watch_something(_: Services) -> None:
        nonlocal watched
        watched += 1

    tasks = [Task("hangs", hang, limit_seconds=45), Task("works", watch_something)]
    runner = TaskRunner(s, tasks, seconds)
    tick(runner, seconds, MONITOR_SECONDS)
    tick(runner, seconds, MONITOR_SECONDS)
    assert failures(s) == {}
    tick(runner, seconds, MONITOR_SECONDS)
    assert set(failures(s)) == {"hangs"}
    assert f"running on {s.worker_id} since 2026-03-02 09:00:00 UTC" in failures(s)["hangs"]
    assert (starts, watched) == (1, 3)
    release.set()
    runner.wait(10)
    eventually(lambda: failures(s) == {}, 10)
    tick(runner, seconds, MONITOR_SECONDS)
    eventually(lambda: starts == 2, 10)


def test_a_task_of_a_process_that_was_suspended_is_not_reported(make_worker: MakeWorker) -> None:
    s, seconds, release = make_worker(), Seconds(), threading.Event()
    runner = TaskRunner(s, [Task("hangs", lambda _: release.wait(), limit_seconds=45)], seconds)
    tick(runner, seconds, MONITOR_SECONDS)
    seconds.now += 10 * MINUTE  # nothing in this process runs meanwhile
    runner.tick()
    assert failures(s) == {}
    tick(runner, seconds, MINUTE)
    assert set(failures(s)) == {"hangs"}
    release.set()


def test_a_monitor_is_carried_out_by_one_worker_until_that_worker_is_gone(
    make_worker: MakeWorker,
) -> None:
    first, second = make_worker(), make_worker()
    seconds = Seconds()
    by: list[str] = []
    tasks = [
        Task("monitor", lambda s: by.append(s.worker_id)),
        Task("every process", lambda _: by.append("any"), is_exclusive=False),
    ]
    runners = [TaskRunner(s, tasks, seconds) for s in (first, second)]
    for _ in range(3):
        for runner in runners:
            tick(runner, seconds, MONITOR_SECONDS)
    assert set(by) == {first.worker_id, "any"}
    assert by.count("any") == 6
    with first.state.write() as connection:  # the first worker no longer renews its lease
        expired = datetime(2026, 1, 1).astimezone()
        connection.execute(sa.update(t.monitor_lease).values(expires_at=expired))
    by.clear()
    tick(runners[1], seconds, MONITOR_SECONDS)
    assert set(by) == {second.worker_id, "any"}
    tick(runners[0], seconds, MONITOR_SECONDS)
    assert first.worker_id not in by  # it comes back, and finds its lease taken
    release_leases(second)
    assert renew_leases(first, ["monitor"]) == {"monitor"}


def test_leases_do_not_depend_on_the_clocks_of_the_workers(make_worker: MakeWorker) -> None:
    first, second = make_worker(), make_worker()
    assert isinstance(second.clock, Clock)
    second.clock.forward(minutes=5)
    assert renew_leases(first, ["a", "b"]) == {"a", "b"}
    assert renew_leases(second, ["a", "b"]) == set()


def test_a_process_that_runners_starts_its_tasks_and_releases_its_leases(tmp_path: Path) -> None:
    s = Services(Settings(home=tmp_path, heartbeat_seconds=0.05))
    ran = threading.Event()
    try:
        with running_tasks(s, [Task("monitor", lambda _: ran.set(), every_seconds=0.1)]):
            assert ran.wait(10)
        with s.state.read() as connection:
            assert connection.execute(sa.select(t.monitor_lease)).one().owner is None
        assert not [x for x in threading.enumerate() if x.name in {"tasks", "monitor"}]
    finally:
        s.close()


def test_a_recovery_that_hangs_leaves_the_worker_alive_and_is_named_in_an_alarm(
    embedded_tcs: World, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, heartbeat_seconds=0.2, worker_timeout_seconds=2.0
    )
    calls, release = 0, threading.Event()

    def hang(_: Services) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first call is part of the start
            release.wait()

    components = replace(COMPONENTS, recoveries=(hang,))
    with cluster.session(components, settings, scheduler=True) as s:
        try:
            eventually(lambda: calls == 2, MINUTE)
            threading.Event().wait(2 * settings.worker_timeout_seconds)
            assert cluster.live_workers(s) == [s.worker_id]
            assert calls == 2
        finally:
            release.set()


def test_the_alarm_about_a_task_of_a_worker_that_is_gone_expires(make_worker: MakeWorker) -> None:
    s, seconds = make_worker(), Seconds()

    def fail(_: Services) -> None:
        raise UnreachableError("no answer")

    runner = TaskRunner(s, [Task("take over", fail, is_exclusive=False)], seconds)
    tick(runner, seconds, MONITOR_SECONDS)
    assert set(failures(s)) == {f"take over of {s.worker_id}"}
    cluster.register_worker(s, schedules=True)
    close_of_gone_workers(s)
    assert len(failures(s)) == 1
    with s.state.write() as connection:
        connection.execute(sa.delete(t.worker))
    close_of_gone_workers(s)
    (closed,) = s.alarms.closed_alarms(10)
    assert closed.resolution == Resolution.EXPIRED


def test_the_alarm_about_a_monitor_is_closed_by_whichever_worker_carries_it_out_next(
    make_worker: MakeWorker,
) -> None:
    first, second = make_worker(), make_worker()
    seconds, broken = Seconds(), ""

    def look(s: Services) -> None:
        if s.worker_id == broken:
            raise UnreachableError("no answer")

    one, two = (TaskRunner(s, [Task("monitor", look)], seconds) for s in (first, second))
    tick(two, seconds, MONITOR_SECONDS)
    release_leases(second)
    broken = first.worker_id
    tick(one, seconds, MONITOR_SECONDS)
    assert set(failures(second)) == {"monitor"}
    release_leases(first)  # it stops
    tick(two, seconds, MONITOR_SECONDS)
    assert failures(second) == {}
