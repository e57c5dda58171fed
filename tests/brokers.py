"""A RabbitMQ node for the tests, which kill, restart and empty it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
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

from tests.conftest import absent
from tests.destinations import free_port
from tis_sync.esr.messaging.drift import queue_counts

READY_SECONDS = 120.0
# A quorum queue whose node is killed within its first seconds is unusable later (RabbitMQ 3.10).
SETTLED_SECONDS = 4.0
LOGIN = "Basic " + b64encode(b"guest:guest").decode()


class Node:
    """One node, with the management API."""

    def __init__(self, home: Path) -> None:
        program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin")
        if program is None:
            absent("no RabbitMQ (rabbitmq-server)")
            raise AssertionError
        self._program, self._home = Path(program), home
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
        """End it at once, like a power failure."""
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
        """Run `rabbitmqctl`."""
        program = shutil.which("rabbitmqctl", path=f"{self._program.parent}:/usr/sbin:/usr/bin")
        assert program is not None
        node = self._environment["RABBITMQ_NODENAME"]
        command = [program, "-n", node, *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API."""
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
    """A virtual host in the node, for one test."""

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
        """Publish messages as other services of TIS do: persistent, JSON; bytes as they are."""
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
        """Consume every message in a queue."""
        return asyncio.run(self._take(queue))

    async def _take(self, queue: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        connection = await aio_pika.connect(self.url)
        async with connection:
            channel = await connection.channel()
            existing = await channel.get_queue(queue)
            messages = []
            while (message := await existing.get(fail=False)) is not None:
                await message.ack()
                messages.append(message)
            return messages

    def count(self, queue: str) -> int | None:
        """How many messages of a queue are ready for delivery; None: it does not exist."""
        return asyncio.run(self._count(queue))

    async def _count(self, queue: str) -> int | None:
        connection = await aio_pika.connect(self.url)
        async with connection:
            counts = await queue_counts(connection, queue)
        return None if counts is None else counts.messages

    def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        body = {"durable": True, "arguments": arguments}
        self.node.api("PUT", f"queues/{self.vhost}/{quote(queue)}", body)

    def delete(self, queue: str) -> None:
        self.node.api("DELETE", f"queues/{self.vhost}/{quote(queue)}")

    def reject(self, queue: str) -> int:
        """Requeue each message of a queue until it is a dead letter; return how many there were."""
        return asyncio.run(self._reject(queue))

    async def _reject(self, queue: str) -> int:
        connection = await aio_pika.connect(self.url)
        seen: set[str | None] = set()
        async with connection:
            channel = await connection.channel()
            existing = await channel.get_queue(queue)
            while (message := await existing.get(fail=False)) is not None:
                seen.add(message.message_id)
                await message.nack(requeue=True)
        return len(seen)


def node(home: Path) -> Iterator[Node]:
    """A node that runs while the tests do."""
    rabbitmq = Node(home)
    try:
        rabbitmq.start()
        yield rabbitmq
    finally:
        rabbitmq.stop()
