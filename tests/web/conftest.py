"""The console, really answering on a port of this machine."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import NOW, TODAY
from tests.destinations import free_port
from tests.running import ticking, working
from tests.world import World
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.tcs import demo
from tis_sync.web.app import create_app
from tis_sync.web.server import Server

START_SECONDS = 60.0


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any


@dataclass
class Console:
    """A console that answers."""

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
        """Call a path under /sync; a redirect is not followed."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = httpx2.request(
            method, f"{self.url}/sync{path}", json=json, data=form, headers=named, timeout=30
        )
        is_json = "json" in reply.headers.get("content-type", "")
        return Answer(
            reply.status_code,
            reply.headers,
            reply.text,
            reply.json() if is_json and reply.content else None,
        )


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
def serving(
    environment: dict[str, str], port: int, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`tis-sync serve`, until the block ends."""
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
def s(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    """A process that works, over a small TCS."""
    demo.generate(embedded_tcs.engine, demo.Size(100), TODAY)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings, scheduler=True) as services:
        yield services


@pytest.fixture
def looking(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    """A process that only looks, over an empty TCS: what is asked of it waits for workers."""
    services = Services(Settings(home=tmp_path, tcs_url=embedded_tcs.url), ticking(NOW))
    yield services
    services.close()


@pytest.fixture
def call(s: Services) -> Iterator[Console]:
    """Its console."""
    with console(s) as answering:
        yield answering
