"""A worker that is suspended in the middle of a write, is taken over, and comes back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import AHEAD_SECONDS, TODAY
from tests.crash.program import DRIVER
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.execution.workflow import start_runs
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as state
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
TRUSTS = "PersonPlacementEmployingBodyTrustJob"
ROOT = Path(__file__).parent.parent.parent
COMMIT = 3  # the calls of the fence in this run: planning, applying, before the commit


@pytest.fixture
def services(mariadb_tcs: World, postgresql: str, tmp_path: Path) -> Iterator[Services]:
    demo.generate(mariadb_tcs.database, demo.Size(300), TODAY, legacy_tables)
    services = Services(
        Settings(
            home=tmp_path / "home",
            tcs_url=mariadb_tcs.url,
            state_url=postgresql,
            search_url=f"embedded:{tmp_path / 'search'}",
            clock_offset_seconds=AHEAD_SECONDS,
        )
    )
    assert services.history.recent() == []
    yield services
    services.close()


def worker(services: Services, home: str, *point: str) -> subprocess.Popen[bytes]:
    given = {
        "home": str(services.settings.home / home),
        "search_url": f"embedded:{services.settings.home / home / 'search'}",
        "tcs_url": services.settings.tcs(),
        "state_url": services.settings.state(),
        "night_start_hours": "[0, 0]",
        "heartbeat_seconds": "0.5",
        "worker_timeout_seconds": "3",
        "guard_share": "1",
        "esr": "false",
        "clock_offset_seconds": str(services.settings.clock_offset_seconds),
    }
    environment = {**os.environ, **{f"TIS_SYNC_{k.upper()}": v for k, v in given.items()}}
    command = [sys.executable, "-m", "tis_sync", "work"]
    if point:
        command = [sys.executable, str(DRIVER), *point, "--", "work"]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def until(true: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def registered(services: Services) -> set[str]:
    with services.state.read() as connection:
        return set(connection.scalars(sa.select(state.worker.c.registration)))


def is_suspended(process: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().split(")")[1].split()[0] == "T"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_suspended_worker_had_not_committed_is_never_committed(
    services: Services, mariadb_tcs: World, moment: str
) -> None:
    """Before its fence, the fence stops it; after it, its connection to TCS has been ended."""
    with ExitStack() as stack:
        first = worker(services, "first", f"fence:{moment}:suspend", str(COMMIT))
        stack.callback(_end, first)
        until(lambda: len(services.workers.alive()) == 1)
        run = request_run(
            services,
            job_named(TRUSTS),
            trigger=Trigger.SCHEDULE,
            requested_by="test",
            options=RunOptions(follow_ups=False),
        )
        start_runs(services, [run.id])
        until(lambda: is_suspended(first))
        before = len(mariadb_tcs.rows(t.PersonTrust, "id"))
        second = worker(services, "second")
        stack.callback(_end, second)
        until(lambda: not services.history.get(run.id).is_active)
        ended = services.history.get(run.id)
        assert ended.state == RunState.SUCCEEDED, ended.error
        pairs = mariadb_tcs.rows(t.PersonTrust, "personId", "trustId")
        assert len(pairs) == len(set(pairs)) != before
        # TCS changes, and then the first worker comes back with what it had planned.
        mariadb_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId % 2 == 0))
        left = mariadb_tcs.rows(t.PersonTrust, "id", "personId", "trustId")
        registrations = registered(services)
        first.send_signal(signal.SIGCONT)
        until(lambda: len(services.workers.alive()) == 2)
        until(lambda: registered(services) != registrations)  # it has noticed, and begun anew
        assert mariadb_tcs.rows(t.PersonTrust, "id", "personId", "trustId") == left
        assert services.history.get(run.id).state == RunState.SUCCEEDED


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
