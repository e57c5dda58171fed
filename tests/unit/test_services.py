"""A server that is silent delays only what needs it."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, Clock
from tests.running import ticking
from tests.waiting import eventually
from tis_sync import app
from tis_sync.alarms.catalogue import OVERDUE
from tis_sync.errors import UnreachableError
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.workers import cluster

ANSWER_SECONDS = 5.0


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def services(silent_server: socket.socket, tmp_path: Path, clock: Clock) -> Iterator[Services]:
    port = silent_server.getsockname()[1]
    services = Services(
        Settings(home=tmp_path, tcs_url=f"mysql+pymysql://u:p@127.0.0.1:{port}/tcs"), clock
    )
    yield services
    services.close()


def test_while_tcs_is_silent_heartbeats_and_alarms_go_on(
    services: Services, silent_server: socket.socket, clock: Clock
) -> None:
    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(services.tcs)
        connection, _ = silent_server.accept()  # it now waits for the greeting of TCS
        try:
            beat = pool.submit(_work_without_tcs, services, clock)
            assert beat.result(ANSWER_SECONDS)
            assert not connecting.done()
        finally:
            connection.close()
        with pytest.raises(UnreachableError):
            connecting.result(ANSWER_SECONDS)


def _work_without_tcs(services: Services, clock: Clock) -> bool:
    registration = services.workers.register("worker", schedules=True)
    services.search()
    services.workspaces.drop("run")
    services.history.all_active()
    opened = services.alarms.open(OVERDUE, "job", "late.", clock(), impact="none")
    return opened and services.workers.beat("worker", registration)


def test_while_one_thread_connects_another_one_waits_for_the_same_connection(
    tmp_path: Path, clock: Clock
) -> None:
    services = Services(Settings(home=tmp_path, tcs_url=f"sqlite:///{tmp_path}/tcs.sqlite"), clock)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: services.tcs(), range(8)))
    assert len({id(database) for database in found}) == 1
    services.close()
    assert services.tcs() is not found[0]
    services.close()


def test_a_worker_whose_first_recovery_hangs_has_a_heartbeat(tmp_path: Path) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def hang(_: Services) -> None:
        begun.set()
        go_on.wait()

    settings = Settings(home=tmp_path, heartbeat_seconds=0.1)
    components = replace(app.COMPONENTS, recoveries=(hang,), monitors=(), consumers=())

    def work() -> None:
        with cluster.session(components, settings, clock=ticking(NOW)):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    observer = Services(settings)
    try:
        assert begun.wait(60)
        first = _heartbeat(observer)
        eventually(lambda: _heartbeat(observer) > first, seconds=ANSWER_SECONDS)
    finally:
        go_on.set()
        thread.join(60)
        observer.close()


def _heartbeat(services: Services) -> datetime:
    with services.state.read() as connection:
        found: datetime = connection.execute(sa.select(t.worker.c.heartbeat_at)).scalar_one()
    return found
