"""Several processes behind one address, and processes that stop while they work on a run."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ON_THE_DAY, TODAY
from tests.destinations import free_port
from tests.oidc import OidcProvider, sign_in
from tests.running import wait_for
from tests.web.conftest import START_SECONDS, Console, serving
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web.auth import tokens
from tis_sync.web.auth.sessions import COOKIE

OWNER = "/api/v1/jobs/PersonOwnerRebuildJob/runs"


@contextmanager
def one_address(port: int, behind: list[int]) -> Iterator[None]:
    """Forward each connection to `port` to one of the ports `behind`, at random."""
    listener = socket.create_server(("127.0.0.1", port), backlog=100)
    chance = random.Random(1)

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", chance.choice(behind)))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.close()


@pytest.fixture
def environment(mariadb_tcs: World, postgresql: str, tmp_path: Path) -> dict[str, str]:
    """Settings as in production: MariaDB and PostgreSQL."""
    demo.generate(mariadb_tcs.database, demo.Size(200), TODAY)
    return {
        **os.environ,
        **ON_THE_DAY,
        "TIS_SYNC_HOME": str(tmp_path),
        "TIS_SYNC_SEARCH_URL": f"embedded:{tmp_path / 'search'}",
        "TIS_SYNC_TCS_URL": mariadb_tcs.url,
        "TIS_SYNC_STATE_URL": postgresql,
        "TIS_SYNC_NIGHT_START_HOURS": "[0, 0]",
    }


@pytest.fixture
def s(environment: dict[str, str]) -> Iterator[Services]:
    """The services of these settings, for the test itself."""
    services = Services(
        Settings(
            tcs_url=environment["TIS_SYNC_TCS_URL"],
            state_url=environment["TIS_SYNC_STATE_URL"],
            home=Path(environment["TIS_SYNC_HOME"]),
        )
    )
    yield services
    services.close()


def test_sessions_and_live_updates_work_whichever_process_answers(
    environment: dict[str, str], s: Services, oidc: OidcProvider
) -> None:
    ports = [free_port(), free_port()]
    environment |= {"TIS_SYNC_OIDC_ISSUER": oidc.issuer, "TIS_SYNC_WEB_URL": oidc.console}
    environment.pop("TIS_SYNC_CLOCK_OFFSET_SECONDS")
    with (
        serving(environment, ports[0]),  # this one works too
        serving(environment, ports[1], "--no-worker"),
        one_address(oidc.console_port, ports),
        httpx2.Client(
            base_url=oidc.console, timeout=60, headers={"Connection": "close"}
        ) as browser,
    ):
        assert "olga" in sign_in(browser, "/sync/", "olga").text
        same = {"Sec-Fetch-Site": "same-origin"}
        for _ in range(8):
            assert browser.get("/sync/api/v1/jobs").status_code == 200
        for index, port in enumerate(ports * 2):  # also of the one that does not work
            requested = httpx2.post(
                f"http://127.0.0.1:{port}/sync{OWNER}", json={"dry_run": True}, headers=same,
                cookies={COOKIE: browser.cookies[COOKIE]},
            )  # fmt: skip
            assert requested.status_code == 202
            other = ports[1 - index % 2]
            followed = httpx2.get(
                f"http://127.0.0.1:{other}/sync/api/v1/runs/{requested.json()['id']}/events",
                cookies={COOKIE: browser.cookies[COOKIE]}, timeout=60,
            )  # fmt: skip
            assert followed.text.rstrip().endswith('event: end\ndata: "succeeded"')
        browser.post("/sync/signout", headers=same)
        for _ in range(8):
            assert browser.get("/sync/api/v1/jobs").status_code == 401


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_continued_when_the_worker_that_ran_it_stops_or_dies(
    end: signal.Signals, environment: dict[str, str], s: Services
) -> None:
    environment |= {
        "TIS_SYNC_PARTITION_KEYS": "2",
        "TIS_SYNC_PARTITIONS_AT_ONCE": "1",
        "TIS_SYNC_SHUTDOWN_WAIT_SECONDS": "2",
        "TIS_SYNC_HEARTBEAT_SECONDS": "0.5",
        "TIS_SYNC_WORKER_TIMEOUT_SECONDS": "3",
    }
    ports = [free_port(), free_port()]
    calls = [Console(port) for port in ports]
    with serving(environment, ports[0]) as first, serving(environment, ports[1], "--no-worker"):
        run_id = calls[0]("POST", OWNER, {"follow_ups": False}).json["id"]
        deadline = time.monotonic() + START_SECONDS
        while not s.history.get(run_id).partitions_done:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(end)
        assert first.wait(60) == (0 if end == signal.SIGTERM else -end)
        page = calls[1]("GET", f"/runs/{run_id}").text
        stopped = "running" in page
        assert stopped or end == signal.SIGTERM  # which lets a partition end if it can
        with serving(environment, ports[0]):
            (ended,) = wait_for(s, run_id)
            assert ended.state == "succeeded"
            assert ended.considered == 200
            page = calls[0]("GET", f"/runs/{run_id}").text
            assert ("another worker continued the run" in page) == stopped
            assert "succeeded" in page


def test_a_token_created_on_the_command_line_gives_access_to_the_api(
    environment: dict[str, str], s: Services, oidc: OidcProvider
) -> None:
    environment |= {"TIS_SYNC_OIDC_ISSUER": oidc.issuer, "TIS_SYNC_WEB_URL": oidc.console}
    created = subprocess.run(
        [sys.executable, "-m", "tis_sync", "token", "create", "robot", "--role", "update"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "not shown again" in created.stderr
    secret = created.stdout.strip()
    assert secret.startswith(tokens.PREFIX)
    assert secret not in created.stderr
    with serving(environment, oidc.console_port, "--no-worker"):
        call = Console(oidc.console_port)
        assert call("GET", "/api/v1/jobs").status == 401
        entries = call("GET", "/api/v1/audit", authorization=f"Bearer {secret}").json["items"]
    assert [(e["action"], e["subject"], e["channel"]) for e in entries] == [
        ("create token", "robot", "command line")
    ]
