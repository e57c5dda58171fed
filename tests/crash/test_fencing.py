"""A worker that is suspended in the middle of a write, is taken over, and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import AHEAD_SECONDS, TODAY
from tests.crash.program import DRIVER
from tests.waiting import eventually
from tests.worker_processes import Worker, WorkerProcesses, environment
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
COMMIT = 3  # the calls of the fence in this run: planning, applying, before the commit
SECONDS = 90.0


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


@pytest.fixture
def workers(services: Services) -> Iterator[WorkerProcesses]:
    """No worker yet; each is started with a `home_of` its own."""
    variables = environment(
        services.settings, heartbeat_seconds="0.5", worker_timeout_seconds="3", guard_share="1",
        esr="false",
    )  # fmt: skip
    with WorkerProcesses(variables) as workers:
        yield workers


def home_of(name: str, services: Services) -> dict[str, str]:
    """The settings of a worker with its own home, as on another machine."""
    home = services.settings.home / name
    return {"home": str(home), "search_url": f"embedded:{home / 'search'}"}


def registered(services: Services) -> set[str]:
    with services.state.read() as connection:
        return set(connection.scalars(sa.select(state.worker.c.registration)))


def is_suspended(process: Worker) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().split(")")[1].split()[0] == "T"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_suspended_worker_had_not_committed_is_never_committed(
    services: Services, mariadb_tcs: World, workers: WorkerProcesses, moment: str
) -> None:
    """Before its fence, the fence stops it; after it, its connection to TCS has been ended."""
    suspending = (str(DRIVER), f"fence:{moment}:suspend", str(COMMIT), "--", "work")
    first = workers.start(suspending, **home_of("first", services))
    eventually(lambda: len(services.workers.alive()) == 1, SECONDS)
    run = request_run(
        services,
        job_named(TRUSTS),
        trigger=Trigger.SCHEDULE,
        requested_by="test",
        options=RunOptions(follow_ups=False),
    )
    start_runs(services, [run.id])
    eventually(lambda: is_suspended(first), SECONDS)
    before = len(mariadb_tcs.rows(t.PersonTrust, "id"))
    workers.start(**home_of("second", services))
    eventually(lambda: not services.history.get(run.id).is_active, SECONDS)
    ended = services.history.get(run.id)
    assert ended.state == RunState.SUCCEEDED, ended.error
    pairs = mariadb_tcs.rows(t.PersonTrust, "personId", "trustId")
    assert len(pairs) == len(set(pairs)) != before
    # TCS changes, and then the first worker comes back with what it had planned.
    mariadb_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId % 2 == 0))
    left = mariadb_tcs.rows(t.PersonTrust, "id", "personId", "trustId")
    registrations = registered(services)
    workers.resume(first)
    eventually(lambda: len(services.workers.alive()) == 2, SECONDS)
    # It has noticed, and begun anew.
    eventually(lambda: registered(services) != registrations, SECONDS)
    assert mariadb_tcs.rows(t.PersonTrust, "id", "personId", "trustId") == left
    assert services.history.get(run.id).state == RunState.SUCCEEDED
