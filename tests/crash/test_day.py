"""A day in fast forward: two workers, five faults an hour, and writers that change TCS throughout.

Every hour all jobs come due. At the end everything derived is right, no alarm is open, the state
database contains no runs older than its retention, and the workers have not grown.

    TIS_SYNC_TEST_HOURS         hours of fast time (default 0: not run; full length 48, so that
                                the first of two days falls out of a retention of one day)
    TIS_SYNC_TEST_HOUR_SECONDS  how long such an hour takes (default 15)
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.conftest import NOW, TODAY, SearchUrl
from tests.crash.fast_worker import fast_clock
from tests.network import Fault, Relay, relay
from tests.verifying import differences
from tests.waiting import eventually
from tests.worker_processes import WorkerProcesses, environment
from tests.world import World
from tis_sync import retention
from tis_sync.alarms.catalogue import NO_WORKER, OVERDUE
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.execution import requests
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.request import request_night
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as state
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers

HOURS = int(os.environ.get("TIS_SYNC_TEST_HOURS", "0"))
HOUR_SECONDS = float(os.environ.get("TIS_SYNC_TEST_HOUR_SECONDS", "15"))
FAULTS_AN_HOUR = 5
FAULT_SECONDS = 1.5
STOP_SECONDS = 6.0  # longer than the worker timeout
START_SECONDS = 120.0
PEOPLE = 600
WORKER = Path(__file__).parent / "fast_worker.py"


class Writer(threading.Thread):
    """Changes TCS as its users do, a few records at a time, until it is stopped."""

    def __init__(self, world: World, address: str, draw: random.Random) -> None:
        super().__init__(daemon=True)
        self._world = world
        self._address = address
        self._draw = draw
        self._ended = threading.Event()
        self.changes = 0

    def run(self) -> None:
        while not self._ended.wait(0.05):
            with suppress(sa.exc.DBAPIError):
                self._world.execute(self._change())
                self.changes += 1
            if self._draw.random() < 0.1:
                self._index_as_tcs_does(self._draw.randrange(1, PEOPLE))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _change(self) -> sa.Executable:
        draw = self._draw
        person, post = draw.randrange(1, PEOPLE), draw.randrange(1, PEOPLE // 4)
        days = timedelta(days=draw.randint(-300, 300))
        placement = t.Placement.c.traineeId == person
        return draw.choice(
            [
                sa.update(t.Placement).where(placement).values(dateTo=TODAY + days),
                sa.update(t.Placement).where(placement).values(postId=post),
                sa.delete(t.Placement).where(placement, t.Placement.c.postId == post),
                sa.update(t.Post).where(t.Post.c.id == post).values(employingBodyId=post % 90 + 1),
                sa.update(t.Post).where(t.Post.c.id == post).values(owner=f"Office {post % 7}"),
                sa.update(t.ContactDetails)
                .where(t.ContactDetails.c.id == person)
                .values(surname=f"Name{draw.randint(1, 999)}"),
                sa.update(t.ProgrammeMembership)
                .where(t.ProgrammeMembership.c.personId == person)
                .values(programmeEndDate=TODAY + days),
                sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId == person),
            ]
        )

    def _index_as_tcs_does(self, person: int) -> None:
        """Replace a person's documents by one with a random id and without our fields."""
        headers = {"content-type": "application/json"}
        query = json.dumps({"query": {"term": {"personId": person}}}).encode()
        with suppress(HTTPError):
            urlopen(
                Request(
                    f"{self._address}/persons/_delete_by_query?conflicts=proceed", query, headers
                )
            ).close()
            document = json.dumps({"personId": person, "surname": "FromTcs"}).encode()
            urlopen(
                Request(f"{self._address}/persons/_doc?require_alias=true", document, headers)
            ).close()


def start_workers(settings: Settings, epoch: float, log: Path) -> WorkerProcesses:
    """Start two workers with a fast clock."""
    variables = environment(
        settings, heartbeat_seconds="0.5", worker_timeout_seconds="4", tcs_timeout_seconds="3",
        search_timeout_seconds="3", partition_keys="160", guard_share="1", history_days="1",
        esr="false",
    )  # fmt: skip
    program = (str(WORKER), NOW.isoformat(), str(epoch), str(3600 / HOUR_SECONDS))
    return WorkerProcesses(variables, 2, program=program, log=log)


def resident_mb(workers: WorkerProcesses) -> int:
    """The resident memory of the largest worker."""
    sizes = [0]
    for process in workers.processes:
        with suppress(FileNotFoundError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            sizes += [int(line.split()[1]) // 1024 for line in lines if "VmRSS" in line]
    return max(sizes)


@pytest.fixture
def relays(mariadb: str, postgresql: str, elasticsearch: str) -> Iterator[dict[str, Relay]]:
    found = {
        "tcs": (make_url(mariadb).host, make_url(mariadb).port or 3306),
        "state": (make_url(postgresql).host, make_url(postgresql).port or 5432),
        "search": (urlsplit(elasticsearch).hostname, urlsplit(elasticsearch).port),
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(relay(str(host), int(port or 0)))
            for name, (host, port) in found.items()
        }


def through(url: str, found: Relay) -> str:
    return make_url(url).set(host="127.0.0.1", port=found.port).render_as_string(False)


def disturb(
    kind: str, relays: dict[str, Relay], workers: WorkerProcesses, draw: random.Random
) -> None:
    if kind == "kill":
        workers.replace(draw.choice(workers.processes))
    elif kind == "stop":
        process = draw.choice(workers.processes)
        workers.suspend(process)
        threading.Timer(STOP_SECONDS, workers.resume, [process]).start()
    else:
        name, _, fault = kind.partition(" ")
        relays[name].fault = Fault[fault]
        threading.Timer(FAULT_SECONDS, setattr, [relays[name], "fault", Fault.NONE]).start()


@pytest.mark.skipif("HOURS == 0", reason="a measurement: set TIS_SYNC_TEST_HOURS")
def test_a_day_of_faults_and_edits_ends_with_everything_right(
    mariadb_tcs: World, postgresql: str, search_url: SearchUrl, elasticsearch: str,
    relays: dict[str, Relay], tmp_path: Path,
) -> None:  # fmt: skip
    demo.generate(mariadb_tcs.database, demo.Size(PEOPLE), TODAY, legacy_tables)
    search_url("elasticsearch")  # drops what earlier tests left
    epoch = time.time()
    clock = fast_clock(NOW, epoch, 3600 / HOUR_SECONDS)
    direct = Settings(
        home=tmp_path / "home", tcs_url=mariadb_tcs.url, state_url=postgresql,
        search_url=f"elasticsearch+{elasticsearch}", guard_share=1.0, history_days=1,
    )  # fmt: skip
    disturbed = direct.model_copy(
        update={
            name: type(direct.state_url)(url)  # type: ignore[misc]
            for name, url in {
                "tcs_url": through(mariadb_tcs.url, relays["tcs"]),
                "state_url": through(postgresql, relays["state"]),
                "search_url": f"elasticsearch+http://127.0.0.1:{relays['search'].port}",
            }.items()
        }
    )
    services = Services(direct, clock)
    assert services.history.recent() == []
    workers = start_workers(disturbed, epoch, tmp_path / "workers.log")
    draw = random.Random(24)
    writer = Writer(mariadb_tcs, elasticsearch, random.Random(25))
    faults: Counter[str] = Counter()
    memory: list[int] = []
    kinds = ["kill", "stop", *(f"{name} {fault.name}" for name in relays
                               for fault in Fault if fault is not Fault.NONE)]  # fmt: skip
    try:
        eventually(lambda: len(services.workers.alive()) == 2, START_SECONDS)
        writer.start()
        for hour in range(HOURS):
            for job in JOBS:
                start_runs(services, requests.request_scheduled(services, job.name))
            for _ in range(FAULTS_AN_HOUR):
                remaining = epoch + (hour + 1) * HOUR_SECONDS - time.time()
                time.sleep(max(0.1, min(remaining, HOUR_SECONDS / FAULTS_AN_HOUR)))
                kind = draw.choice(kinds)
                disturb(kind, relays, workers, draw)
                faults[kind] += 1
            memory.append(resident_mb(workers))
        time.sleep(STOP_SECONDS)
        writer.end()
        eventually(lambda: not services.history.all_active(), 600)
        night = request_night(
            services, trigger=Trigger.START, requested_by="test", options=RunOptions()
        )
        start_night(services, night.id)
        eventually(lambda: not services.history.all_active(), 600)
        assert services.history.get(night.id).state == RunState.SUCCEEDED, night
        today = services.clock().date()  # the fast clock has passed midnight
        assert differences(services, mariadb_tcs, today=today) == {}
        retention.prune(services)
        print(
            f"{HOURS} hours, {sum(faults.values())} faults {dict(faults)}, {writer.changes} edits; "
            f"largest worker by hour, MB: {memory}"
        )
        assert oldest_run_days(services) <= 1.1
        eventually(lambda: not open_alarms(services), 60, lambda: open_alarms(services))
        if HOURS >= 12:
            third = HOURS // 3
            assert max(memory[-third:]) <= 1.2 * max(memory[third:-third])
    finally:
        workers.end()
        services.close()


def open_alarms(services: Services) -> list[str]:
    """The open alarms, but for what is true here: the clock runs fast, and nothing is scheduled."""
    return [
        f"{alarm.kind.name} {alarm.subject}: {alarm.text}"
        for alarm in services.alarms.open_alarms()
        if alarm.subject != "clock" and alarm.kind not in {OVERDUE, NO_WORKER}
    ]


def oldest_run_days(services: Services) -> float:
    """The age of the oldest run, other than the last success of each job."""
    kept = [run.id for run in services.history.last_successes([job.name for job in JOBS])]
    with services.state.read() as connection:
        oldest = connection.scalar(
            sa.select(sa.func.min(state.run.c.created_at)).where(state.run.c.id.not_in(kept))
        )
    assert oldest is not None
    return float((services.clock() - oldest).total_seconds()) / 86_400
