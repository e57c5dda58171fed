"""The console, answering on a port of this machine."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import NOW, TODAY
from tests.destinations import free_port
from tests.running import ticking, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.web.app import create_app
from tis_sync.web.server import Server

START_SECONDS = 60.0


@dataclass
class Answer:
    """An answer of the console."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any


@dataclass
class Console:
    """Sends requests to a console."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(
        self,
        method: str,
        path: str,
        json: object = None,
        form: Any = None,
        **headers: str,
    ) -> Answer:
        """Request a path under /sync; a redirect is not followed."""
        renamed = {name.replace("_", "-"): value for name, value in headers.items()}
        response = httpx2.request(
            method, f"{self.url}/sync{path}", json=json, data=form, headers=renamed, timeout=30
        )
        is_json = "json" in response.headers.get("content-type", "")
        return Answer(
            response.status_code,
            response.headers,
            response.text,
            response.json() if is_json and response.content else None,
        )


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **units: float) -> None:
        self.now += timedelta(**units)


def status(call: Console, token: str, path: str = "/api/v1/jobs") -> int:
    """The status that a bearer token gets."""
    return call("GET", path, authorization=f"Bearer {token}").status


@contextmanager
def console(services: Services, port: int | None = None) -> Iterator[Console]:
    """Answer while the block lasts."""
    port = port or free_port()
    server = Server(create_app(services), "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Console(port)
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def console_with(
    s: Services, settings: Settings, clock: Callable[[], datetime] | None = None
) -> Iterator[Console]:
    """Answer with other settings, or another clock, while the block lasts."""
    services = Services(settings, clock or s.clock)
    try:
        with console(services) as answering:
            yield answering
    finally:
        services.close()


@contextmanager
def serving(
    environment: dict[str, str], port: int, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tis-sync serve` while the block lasts."""
    command = [sys.executable, "-m", "tis_sync", "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        call, deadline = Console(port), time.monotonic() + START_SECONDS
        while True:
            try:
                assert call("GET", "/health/live").status == 200
                break
            except httpx2.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves on; it begins now, because the provider's clock does."""
    return Clock()


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    """The services of a working process, with a small TCS."""
    demo.generate(embedded_tcs.database, demo.Size(100), TODAY)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings, scheduler=True) as services:
        yield services


@pytest.fixture
def idle(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    """The services of a process that does not work: what it requests waits for workers."""
    services = Services(Settings(home=tmp_path, tcs_url=embedded_tcs.url), ticking(NOW))
    yield services
    services.close()


@pytest.fixture
def call(s: Services) -> Iterator[Console]:
    """The console of that process."""
    with console(s) as answering:
        yield answering
