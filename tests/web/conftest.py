"""The console, really answering on a port of this machine."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import uvicorn

from tests.destinations import free_port
from tis_sync.runs.services import Services
from tis_sync.web.app import create_app


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Console:
    """A console that answers."""

    port: int

    def __call__(self, method: str, path: str, **headers: str) -> Answer:
        request = Request(f"http://127.0.0.1:{self.port}/sync{path}", method=method)
        for name, value in headers.items():
            request.add_header(name, value)
        try:
            with urlopen(request, timeout=30) as reply:
                return Answer(reply.status, dict(reply.headers), reply.read().decode())
        except HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read().decode())


@contextmanager
def console(services: Services) -> Iterator[Console]:
    """Answer while the block lasts."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(services), port=port, log_config=None))
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
