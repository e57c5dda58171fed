"""Two workers on real servers, of which one is killed or suspended at a random moment of a night.

Each round spoils what earlier nights derived, starts a night, and disturbs a worker: four times of
five with SIGKILL; otherwise with SIGSTOP, for longer than the others take to declare it dead, so
that it comes back in the middle of what it did. Afterwards all must be as after an undisturbed
night.

    TIS_SYNC_TEST_TAKEOVERS     rounds (default 6; the full length is 200)
    TIS_SYNC_TEST_STOP_SECONDS  how long a worker is suspended (default 12; the full length is 60)
    TIS_SYNC_TEST_SEED          the seed of the random moments (default 9)
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import sqlalchemy as sa

from tests.conftest import AHEAD_SECONDS, TODAY, SearchUrl
from tests.verifying import differences
from tests.waiting import eventually
from tests.worker_processes import WorkerProcesses, environment
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.execution.workflow import start_night
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_index import PERSONS
from tis_sync.runs.request import request_night
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as state
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers

ROUNDS = int(os.environ.get("TIS_SYNC_TEST_TAKEOVERS", "6"))
STOP_SECONDS = float(os.environ.get("TIS_SYNC_TEST_STOP_SECONDS", "12"))
SEED = int(os.environ.get("TIS_SYNC_TEST_SEED", "9"))
PEOPLE = 1000
STOP_EVERY = 5  # one round in five suspends the worker instead of killing it
NIGHT_SECONDS = 8.0  # roughly: moments of disturbance are drawn from this period
START_SECONDS = 90.0
DEADLINE_SECONDS = 400.0


def start_workers(services: Services, log: Path) -> WorkerProcesses:
    """Start two workers."""
    variables = environment(
        services.settings, heartbeat_seconds="0.5", worker_timeout_seconds="4",
        partition_keys="160", guard_share="1", java_shedlock="true", esr="false",
    )  # fmt: skip
    return WorkerProcesses(variables, 2, log=log)


@pytest.fixture
def services(
    mariadb_tcs: World, postgresql: str, search_url: SearchUrl, tmp_path: Path
) -> Iterator[Services]:
    demo.generate(mariadb_tcs.database, demo.Size(PEOPLE), TODAY, legacy_tables)
    services = Services(
        Settings(
            home=tmp_path / "home",
            tcs_url=mariadb_tcs.url,
            state_url=postgresql,
            search_url=search_url("elasticsearch"),
            clock_offset_seconds=AHEAD_SECONDS,
        )
    )
    assert services.history.recent() == []
    yield services
    services.close()


@pytest.fixture
def workers(services: Services, tmp_path: Path) -> Iterator[WorkerProcesses]:
    with start_workers(services, tmp_path / "workers.log") as workers:
        eventually(lambda: len(services.workers.alive()) == 2, START_SECONDS)
        yield workers


def spoil(services: Services, world: World, address: str, draw: random.Random) -> None:
    """Make derived data wrong in random places: lost, surplus, doubled and wrong records."""
    modulus = draw.randint(2, 9)
    trust = t.PersonTrust
    statements: list[sa.Executable] = [
        sa.delete(trust).where(trust.c.personId % modulus == 0),
        sa.delete(t.PersonOwner).where(t.PersonOwner.c.id % (modulus + 1) == 0),
        sa.update(t.PersonOwner).where(t.PersonOwner.c.id % 7 == 3).values(owner="nobody"),
        sa.delete(t.PostTrust).where(t.PostTrust.c.postId % modulus == 1),
        sa.insert(trust).from_select(
            ["personId", "trustId"],
            sa.select(trust.c.personId, trust.c.trustId).where(trust.c.personId % 11 == 5),
        ),
        sa.insert(trust).from_select(
            ["personId", "trustId"],
            sa.select(t.Person.c.id, sa.literal(999_999)).where(t.Person.c.id % 13 == 1),
        ),
    ]
    for statement in draw.sample(statements, draw.randint(2, len(statements))):
        world.execute(statement)
    live = services.search().live(PERSONS)
    if live is None or draw.random() < 0.3:
        return
    if draw.random() < 0.4:
        urlopen(Request(f"{address}/{live.name}", method="DELETE")).close()
        return
    body = {"query": {"range": {"personId": {"lt": draw.randint(20, 900)}}}}
    url = f"{address}/{live.name}/_delete_by_query?refresh=true"
    urlopen(Request(url, json.dumps(body).encode(), {"content-type": "application/json"})).close()


def in_flight(services: Services) -> Counter[str]:
    """How many workflows each worker has begun and not finished, according to DBOS."""
    counted = sa.text(
        "SELECT executor_id, count(*) FROM dbos.workflow_status WHERE status = 'PENDING' "
        "GROUP BY executor_id"
    )
    with services.state.read() as connection:
        return Counter({str(row[0]): int(row[1]) for row in connection.execute(counted)})


def remains(services: Services, address: str) -> list[str]:
    """Locks, half-built indexes, unfinished work and open alarms that should not be there."""
    found = []
    now = services.clock().replace(tzinfo=None)
    with services.tcs().read() as connection:
        held = sa.select(t.Shedlock.c.name).where(t.Shedlock.c.lock_until > now)
        found += [f"lock {name}" for name in connection.scalars(held)]
    for alias in ("persons", "posts"):
        with urlopen(f"{address}/_cat/indices/{alias}-*?format=json") as reply:
            names = {index["index"] for index in json.load(reply)}
        if len(names) > 2:  # the live one and the one before
            found.append(f"indexes {sorted(names)}")
    found += [
        f"active {run.job}, {run.trigger}, {run.created_at:%H:%M:%S}, after {run.parent}"
        for run in services.history.all_active()
    ]
    found += [f"to clean up {run.job}" for run in services.history.to_clean_up()]
    found += [
        f"alarm {alarm.kind.name} {alarm.subject}: {alarm.text}"
        for alarm in services.alarms.open_alarms()
        if "CLOCK_OFFSET" not in alarm.subject  # which is true in these tests
    ]
    with services.state.read() as connection:
        losses = sa.select(sa.func.count()).select_from(state.loss)
        if connection.scalar(losses):
            found.append("losses")
    return found


def test_a_night_survives_the_death_and_the_return_of_a_worker(
    services: Services, mariadb_tcs: World, workers: WorkerProcesses, elasticsearch: str
) -> None:
    draw = random.Random(SEED)
    disturbed: Counter[str] = Counter()
    in_the_middle = 0
    for number in range(ROUNDS):
        spoil(services, mariadb_tcs, elasticsearch, draw)
        eventually(lambda: len(services.workers.alive()) == 2, START_SECONDS)
        night = request_night(
            services, trigger=Trigger.START, requested_by="test", options=RunOptions()
        )
        start_night(services, night.id)
        time.sleep(draw.uniform(0.2, NIGHT_SECONDS))
        victim = draw.choice(workers.processes)
        busy = in_flight(services)
        if number % STOP_EVERY == STOP_EVERY - 1:
            workers.suspend(victim)
            time.sleep(STOP_SECONDS)
            workers.resume(victim)
            disturbed["stopped"] += 1
        else:
            workers.replace(victim)
            disturbed["killed"] += 1
        in_the_middle += any(str(victim.pid) in worker for worker in busy)
        eventually(lambda: not services.history.all_active(), DEADLINE_SECONDS)
        eventually(lambda: not in_flight(services), DEADLINE_SECONDS)
        runs = services.history.children(night.id)
        everything = [services.history.get(night.id), *runs]
        context = f"round {number}, seed {SEED}: {[(r.job, r.state, r.error) for r in everything]}"
        assert services.history.get(night.id).state == "succeeded", context
        assert Counter(r.job for r in runs) == Counter(job.name for job in JOBS), context
        assert differences(services, mariadb_tcs) == {}, context
        assert remains(services, elasticsearch) == [], context
        print(f"round {number + 1} of {ROUNDS}: as undisturbed", flush=True)
    print(f"{dict(disturbed)}; {in_the_middle} of {ROUNDS} in the middle of the worker's work")
    assert in_the_middle >= ROUNDS // 4


def test_a_worker_whose_clock_is_five_minutes_wrong_is_neither_taken_over_nor_takes_over(
    services: Services, mariadb_tcs: World, elasticsearch: str, tmp_path: Path
) -> None:
    skewed = Services(
        services.settings.model_copy(update={"clock_offset_seconds": AHEAD_SECONDS - 300})
    )
    with (
        closing(skewed),
        start_workers(services, tmp_path / "workers.log"),
        start_workers(skewed, tmp_path / "workers.log"),
    ):
        eventually(lambda: len(services.workers.alive()) == 4, START_SECONDS)
        with services.state.read() as connection:
            registered = dict(
                connection.execute(sa.select(state.worker.c.id, state.worker.c.registration)).all()
            )
        night = request_night(
            services, trigger=Trigger.START, requested_by="test", options=RunOptions()
        )
        start_night(services, night.id)
        eventually(lambda: not services.history.all_active(), DEADLINE_SECONDS)
        runs = services.history.children(night.id)
        assert Counter(r.job for r in runs) == Counter(job.name for job in JOBS)
        assert services.history.get(night.id).state == "succeeded"
        assert differences(services, mariadb_tcs) == {}
        with services.state.read() as connection:
            after = dict(
                connection.execute(sa.select(state.worker.c.id, state.worker.c.registration)).all()
            )
        assert after == registered
        assert remains(services, elasticsearch) == []
