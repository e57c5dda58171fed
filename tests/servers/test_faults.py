"""A fault at a connection, at each step of a run: the run ends right or says what is wrong.

Whatever happens, no run succeeds with a stale product, and the next run makes everything right.

    TIS_SYNC_TEST_FAULTS   "all": every job, every connection, every fault at every step (about an
                           hour); by default, one job of each kind and a drawn half of the rest
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from tests.conftest import TODAY, SearchUrl
from tests.network import Fault, Relay, relay
from tests.running import run_night, wait_for, working
from tests.verifying import differences
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.execution import (
    build,
    in_place,
    judgement,
    partitions,
    preparation,
    recovery,
    turn,
    workflow,
)
from tis_sync.execution.workflow import start_runs
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs import end
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers

CONNECTIONS = ("tcs", "state", "search", "alarms")
FAULTS = (Fault.REFUSE, Fault.HANG, Fault.CUT, Fault.SLOW)
STEPS: dict[str, ModuleType] = {
    "wait_for_turn": turn, "prepare": preparation, "plan_partition": partitions,
    "judge": judgement, "apply_partition": partitions, "settle": in_place, "begin_build": build,
    "fill_partition": partitions, "publish": build, "finish": end,
}  # fmt: skip
ALL = os.environ.get("TIS_SYNC_TEST_FAULTS") == "all"
SAMPLE = ("PersonPlacementEmployingBodyTrustJob", "PersonRecordStatusJob",
          "PostElasticSearchSyncJob")  # fmt: skip
FAULT_SECONDS = 1.5  # how long a fault lasts
TIMEOUT_SECONDS = 1.0  # shorter than a fault, so that a hang is noticed


class Faults:
    """Relays in front of the servers, and the moment at which one of them fails."""

    def __init__(self, relays: dict[str, Relay]) -> None:
        self.relays = relays
        self._armed: tuple[str, str, Fault] | None = None

    def arm(self, step: str, connection: str, fault: Fault) -> None:
        self._armed = (step, connection, fault)

    def reach(self, step: str) -> None:
        """Begin the armed fault if this is its step; it ends by itself."""
        if self._armed is None or self._armed[0] != step:
            return
        _, connection, fault = self._armed
        self._armed = None
        self.relays[connection].fault = fault
        threading.Timer(FAULT_SECONDS, self.lift).start()

    def lift(self) -> None:
        self._armed = None
        for found in self.relays.values():
            found.fault = Fault.NONE


class _Channel(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def through(url: str, found: Relay) -> str:
    return (
        make_url(url).set(host="127.0.0.1", port=found.port).render_as_string(hide_password=False)
    )


@pytest.fixture
def broken(
    mariadb_tcs: World, postgresql: str, search_url: SearchUrl, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Services, Faults, Services]]:  # fmt: skip
    """Services whose every connection goes through a relay, and others that look at the outcome."""
    demo.generate(mariadb_tcs.database, demo.Size(200), TODAY, legacy_tables)
    monkeypatch.setattr(workflow, "RETRY_SECONDS", (0.5,) * 12)
    monkeypatch.setattr(recovery, "ORPHAN_SECONDS", 2.0)
    search = search_url("elasticsearch")
    product, _, address = search.partition("+")
    channel = HTTPServer(("127.0.0.1", 0), _Channel)
    threading.Thread(target=channel.serve_forever, daemon=True).start()
    with ExitStack() as stack:
        targets = {
            "tcs": (make_url(mariadb_tcs.url).host, make_url(mariadb_tcs.url).port or 3306),
            "state": (make_url(postgresql).host, make_url(postgresql).port or 5432),
            "search": (urlsplit(address).hostname, urlsplit(address).port),
            "alarms": ("127.0.0.1", channel.server_port),
        }
        relays = {
            name: stack.enter_context(relay(str(host), int(port or 0)))
            for name, (host, port) in targets.items()
        }
        faults = Faults(relays)
        for step, module in STEPS.items():
            original = getattr(module, step)

            def reached(
                *given: Any, _step: str = step, _original: Any = original, **named: Any
            ) -> Any:
                faults.reach(_step)
                return _original(*given, **named)

            monkeypatch.setattr(module, step, reached)
        settings = Settings(
            home=tmp_path / "home",
            tcs_url=through(mariadb_tcs.url, relays["tcs"]),
            state_url=through(postgresql, relays["state"]),
            search_url=f"{product}+http://127.0.0.1:{relays['search'].port}",
            notification_urls=f"json://127.0.0.1:{relays['alarms'].port}",
            notify_runs=True,
            guard_share=1.0,
            heartbeat_seconds=0.5,
        )
        with working(settings) as services:
            night = run_night(services)[0]
            assert night.state == "succeeded", night.error
        impatient = {
            "search_timeout_seconds": TIMEOUT_SECONDS, "tcs_timeout_seconds": TIMEOUT_SECONDS,
            "bulk_retry_timeout_seconds": 1.0,
        }  # fmt: skip
        undisturbed = Services(settings.model_copy(update={"search_url": SecretStr(search)}))
        stack.callback(undisturbed.close)
        with working(settings.model_copy(update=impatient)) as services:
            yield services, faults, undisturbed
            faults.lift()
    channel.shutdown()
    channel.server_close()


def spoil(world: World) -> None:
    world.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId % 5 == 0))
    world.execute(sa.delete(t.PersonOwner).where(t.PersonOwner.c.id % 7 == 0))
    world.execute(sa.delete(t.PostTrust).where(t.PostTrust.c.postId % 5 == 0))
    world.execute(sa.update(t.Post).where(t.Post.c.id % 5 == 1).values(owner="Elsewhere"))


def cases() -> list[tuple[str, str, Fault, str]]:
    every = [
        (job.name, connection, fault, step)
        for job in JOBS
        for connection in CONNECTIONS
        for fault in FAULTS
        for step in STEPS
    ]
    if ALL:
        return every
    drawn = random.Random(4)
    return drawn.sample([case for case in every if case[0] in SAMPLE], 40)


def test_a_fault_at_any_step_ends_right_or_is_named(
    broken: tuple[Services, Faults, Services], mariadb_tcs: World
) -> None:
    services, faults, undisturbed = broken
    hits = failures = 0
    for job, connection, fault, step in cases():
        context = f"{job}: {connection} {fault.name} at {step}"
        spoil(mariadb_tcs)
        before = faults.relays[connection].hit
        faults.arm(step, connection, fault)
        requested = request_run(
            services, job_named(job), trigger=Trigger.START, requested_by="test",
            options=RunOptions(rebuild=step in {"begin_build", "fill_partition", "publish"}
                               and "Elastic" in job, follow_ups=False),
        )  # fmt: skip
        start_runs(services, [requested.id])
        run = ended(services, requested.id)
        hits += faults.relays[connection].hit > before
        if run.state == RunState.SUCCEEDED:
            assert differences(undisturbed, mariadb_tcs, [job]) == {}, context
        else:
            failures += 1
            assert run.state == RunState.FAILED, (context, run)
            assert run.error, context
    print(f"{hits} faults affected a connection; {failures} runs failed, with a reason")
    assert hits > len(cases()) // 4
    for found in faults.relays.values():
        found.reset()
    night, *_ = run_night(services)
    assert night.state == "succeeded", night.error
    assert differences(services, mariadb_tcs) == {}


def ended(services: Services, run_id: str) -> Any:
    """Wait for a run, although the state database may not answer at first."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return wait_for(services, run_id)[0]
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
