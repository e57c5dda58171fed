"""A RabbitMQ node of the tests' own: killed, restarted and emptied as they need."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

import aio_pika
from faststream.rabbit import RabbitQueue

from tests.conftest import absent
from tests.destinations import free_port
from tis_sync.esr.broker.look import counts

READY_SECONDS = 120.0
# A quorum queue that is killed within its first seconds comes back unusable (RabbitMQ 3.10).
SETTLED_SECONDS = 4.0
LOGIN = "Basic " + b64encode(b"guest:guest").decode()


class Node:
    """One node, with the management API."""

    def __init__(self, home: Path) -> None:
        found = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin")
        if found is None:
            absent("no RabbitMQ (rabbitmq-server)")
            raise AssertionError
        self._program, self._home = Path(found), home
        self.port, self.api_port, self._dist_port = free_port(), free_port(), free_port()
        (home / "home").mkdir(parents=True)
        (home / "plugins").write_text("[rabbitmq_management].")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.api_port}\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(home / "home"),
            "RABBITMQ_NODENAME": f"tis_sync_{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._home / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(self._program)], env=self._environment, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with suppress(URLError, OSError):
                self.api("GET", "vhosts")
                return
            assert self._process.poll() is None, (self._home / "out").read_text()
            assert time.monotonic() < deadline, (self._home / "out").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """End it at once, as a machine does that loses its power."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            self._process.wait(60)
            self._process = None

    def ctl(self, *arguments: str) -> None:
        """`rabbitmqctl`."""
        program = shutil.which("rabbitmqctl", path=f"{self._program.parent}:/usr/sbin:/usr/bin")
        assert program is not None
        node = self._environment["RABBITMQ_NODENAME"]
        command = [program, "-n", node, *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The management API."""
        request = Request(
            f"http://127.0.0.1:{self.api_port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": LOGIN, "Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None


@dataclass
class Broker:
    """A virtual host of its own."""

    node: Node
    vhost: str

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.node.port}/{self.vhost}"

    @property
    def api_url(self) -> str:
        return f"http://guest:guest@127.0.0.1:{self.node.api_port}"

    def create(self) -> None:
        self.node.api("PUT", f"vhosts/{self.vhost}")
        rights = dict.fromkeys(("configure", "write", "read"), ".*")
        self.node.api("PUT", f"permissions/{self.vhost}/guest", rights)

    def drop(self) -> None:
        with suppress(HTTPError):
            self.node.api("DELETE", f"vhosts/{self.vhost}")

    def send(self, queue: str, *bodies: object, ids: list[str] | None = None, **more: Any) -> None:
        """Publish messages as the senders of TIS do: persistent, JSON; bytes go as they are."""
        asyncio.run(self._send(queue, bodies, ids or [str(uuid4()) for _ in bodies], more))

    async def _send(
        self, queue: str, bodies: tuple[object, ...], ids: list[str], more: dict[str, Any]
    ) -> None:
        connection = await aio_pika.connect(self.url)
        async with connection:
            channel = await connection.channel()
            for body, message_id in zip(bodies, ids, strict=True):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                properties: dict[str, Any] = {
                    "content_type": "application/json", "app_id": "TIS", "message_id": message_id,
                    "correlation_id": str(uuid4()), "timestamp": datetime.now(UTC),
                } | more  # fmt: skip
                message = aio_pika.Message(
                    data, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties
                )
                await channel.default_exchange.publish(message, queue)

    def take(self, queue: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """Everything that lies in a queue, taken out of it."""
        return asyncio.run(self._take(queue))

    async def _take(self, queue: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        connection = await aio_pika.connect(self.url)
        async with connection:
            channel = await connection.channel()
            there = await channel.get_queue(queue)
            found = []
            while (message := await there.get(fail=False)) is not None:
                await message.ack()
                found.append(message)
            return found

    def count(self, queue: str) -> int | None:
        """How many messages wait in a queue, not given to anybody; None: there is no queue."""
        return asyncio.run(self._count(queue))

    async def _count(self, queue: str) -> int | None:
        connection = await aio_pika.connect(self.url)
        async with connection:
            found = await counts(connection, RabbitQueue(queue))
        return None if found is None else found.messages

    def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        body = {"durable": True, "arguments": arguments}
        self.node.api("PUT", f"queues/{self.vhost}/{quote(queue)}", body)

    def delete(self, queue: str) -> None:
        self.node.api("DELETE", f"queues/{self.vhost}/{quote(queue)}")

    def refuse(self, queue: str) -> int:
        """Take messages and give each back until the queue gives it up; how many there were."""
        return asyncio.run(self._refuse(queue))

    async def _refuse(self, queue: str) -> int:
        connection = await aio_pika.connect(self.url)
        seen: set[str | None] = set()
        async with connection:
            channel = await connection.channel()
            there = await channel.get_queue(queue)
            while (message := await there.get(fail=False)) is not None:
                seen.add(message.message_id)
                await message.nack(requeue=True)
        return len(seen)


def node(home: Path) -> Iterator[Node]:
    made = Node(home)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def eventually(true: Callable[[], object], seconds: float = 60.0, what: object = "") -> float:
    """Wait until something is true; how long it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, what
        time.sleep(0.1)
    return time.monotonic() - started
