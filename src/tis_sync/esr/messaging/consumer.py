"""The consumer: consumes messages and publishes events, and restarts when it is cut off.

If a broker is reset, or a queue is deleted under a live connection, a consumer is left without
messages and without an error. If a queue is deleted and immediately recreated, RabbitMQ even keeps
a consumer that receives nothing. So every few seconds the consumer checks that its connections are
open, that its queues exist and have consumers, and that pings arrive through their bindings. If
not, it restarts: it connects, declares and subscribes again. Each successful check is recorded in
the state database, and the monitor opens an alarm when that record becomes stale.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tis_sync import extras
from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError, UnreachableError
from tis_sync.esr.messaging.connection import connected, url_of
from tis_sync.esr.messaging.drift import queue_counts
from tis_sync.esr.messaging.outbox import publish_events
from tis_sync.esr.messaging.topology import topology
from tis_sync.logs import get, reason_of
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t
from tis_sync.state.clock import time_in

# The client's packages are an optional extra: they are imported once a broker is configured.
if TYPE_CHECKING:
    from tis_sync.esr.messaging.application import Application
    from tis_sync.esr.messaging.handlers import Export

CHECK_SECONDS = 5.0  # between two checks of the broker
PING_SECONDS = 60.0  # a ping that is not delivered by then expires
UNRESPONSIVE_SECONDS = 15.0  # without a delivery, even though a ping was sent
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 15.0  # before the consumer restarts
CLOSE_SECONDS = 15.0  # for one of the two connections to close
LONGEST_REASON = 200  # characters of an error that are logged
BROKER = "broker"  # its name in the table of last contacts, and the subject of its alarms


@contextmanager
def consuming(s: Services, export: "Export") -> Iterator[None]:
    """Consume messages and publish events, in a thread, while the block lasts.

    If no broker is configured, nothing happens.

    Args:
        s: settings, clock and servers.
        export: carries out export commands: `actions.export`, bound to `s`.

    Raises:
        UsageError: the URL of the broker is malformed, or the extra `rabbitmq` is not installed.

    """
    if s.settings.broker_url is None:
        yield
        return
    url_of(s.settings)
    with extras.needs(extras.RABBITMQ):
        import_module("tis_sync.esr.messaging.application")
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(consume(s, export, stop))

    thread = threading.Thread(target=run, name="consumer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(2 * CLOSE_SECONDS)


async def consume(s: Services, export: "Export", stop: asyncio.Event) -> None:
    """Consume messages and publish events until `stop` is set.

    Args:
        s: settings, clock and servers.
        export: carries out export commands.
        stop: ends the consumer.

    """
    from tis_sync.esr.messaging.amqp import translate_error

    url = url_of(s.settings)
    wait = FIRST_WAIT_SECONDS
    while not stop.is_set():
        try:
            async with _connections(s, export, url) as connections:
                get().info("consuming", broker=BROKER)
                while not stop.is_set():
                    if await _check(s, connections):
                        await _record_contact(s)
                    wait = FIRST_WAIT_SECONDS
                    await _sleep(stop, CHECK_SECONDS)
        # The client library cancels everything that waits for a closed connection.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  it starts again
            reason = str(translate_error(error, url))
            get().warning("not consuming", reason=reason, retry_in_seconds=wait)
            await _sleep(stop, wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Wait for the given time, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Liveness:
    """Tracks when each queue last delivered something to this process.

    Args:
        queues: the names of the queues.
        monotonic: a clock that never goes backwards, in seconds.

    """

    def __init__(self, queues: Collection[str], monotonic: Callable[[], float]) -> None:
        self._queues, self._monotonic = tuple(queues), monotonic
        self._pinged: dict[str, float] = {}  # the first ping since the last delivery
        self._in_progress: Counter[str] = Counter()

    @contextmanager
    def delivery(self, queue: str) -> Iterator[None]:
        """Note a delivery from a queue; it is being handled while the block lasts."""
        self._in_progress[queue] += 1
        try:
            yield
        finally:
            self._in_progress[queue] -= 1
            self._pinged.pop(queue, None)

    def ping_sent(self, queue: str) -> None:
        """Note that the broker accepted a ping for a queue."""
        self._pinged.setdefault(queue, self._monotonic())

    def idle_queues(self) -> list[str]:
        """Queues from which no delivery is being handled; only a ping shows that they deliver."""
        return [name for name in self._queues if not self._in_progress[name]]

    def unresponsive_queues(self) -> list[str]:
        """Idle queues that have not delivered a ping for `UNRESPONSIVE_SECONDS`."""
        latest = self._monotonic() - UNRESPONSIVE_SECONDS
        return [name for name in self.idle_queues() if self._pinged.get(name, latest) < latest]


@dataclass(frozen=True)
class _Connections:
    """The open connections; `closed` is set when one of them is closed."""

    app: "Application"
    liveness: Liveness
    closed: asyncio.Event
    publishing: asyncio.Task[None]


@asynccontextmanager
async def _connections(s: Services, export: "Export", url: str) -> AsyncIterator[_Connections]:
    """Declare the topology, then consume and publish until the block ends."""
    from tis_sync.esr.messaging.amqp import declare
    from tis_sync.esr.messaging.application import application
    from tis_sync.esr.messaging.handlers import Handlers

    expected = topology(s.settings)
    async with connected(s.settings) as connection:
        for difference in await declare(connection, expected):
            get().warning("drift at the broker", reason=difference)
    closed = asyncio.Event()
    liveness = Liveness([queue.name for queue in expected.consumed_queues()], time.monotonic)
    app = application(url, expected, Handlers(s, export), liveness.delivery, closed.set)
    publishing = None
    try:
        await app.publisher.start()
        await app.consumer.start()
        publishing = asyncio.create_task(publish_events(s, app))
        yield _Connections(app, liveness, closed, publishing)
    finally:
        if publishing is not None:
            publishing.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await publishing
        for broker in (app.consumer, app.publisher):
            with suppress(Exception):
                await asyncio.wait_for(broker.stop(), CLOSE_SECONDS)


async def _check(s: Services, connections: _Connections) -> bool:
    """Check that messages can arrive, and ping the queues that are idle.

    Returns:
        False if the broker accepts no messages at the moment.

    Raises:
        UnreachableError: no message can arrive; the consumer must restart.

    """
    if connections.publishing.done():
        connections.publishing.result()
    if connections.closed.is_set():
        raise UnreachableError("the connection was closed")
    async with connected(s.settings) as connection:
        for queue in topology(s.settings).consumed_queues():
            counts = await queue_counts(connection, queue.name)
            if counts is None:
                raise UnreachableError(f"queue {queue.name} does not exist")
            if not counts.consumers:
                raise UnreachableError(f"queue {queue.name} has no consumer")
    if unresponsive := connections.liveness.unresponsive_queues():
        raise UnreachableError(f"pings do not arrive from {', '.join(unresponsive)}")
    return await _ping(connections)


async def _ping(connections: _Connections) -> bool:
    """Ping the queues that are idle; return whether the broker accepted every ping.

    Pings take the way of messages, through the exchange, so a lost binding is noticed too.

    Raises:
        UnreachableError: a queue has lost its binding; it is declared again after a restart.

    """
    from aio_pika.exceptions import PublishError

    queues = connections.liveness.idle_queues()
    results = await asyncio.gather(
        *(connections.app.ping(queue, PING_SECONDS, CHECK_SECONDS) for queue in queues),
        return_exceptions=True,
    )
    unbound = [q for q, r in zip(queues, results, strict=True) if isinstance(r, PublishError)]
    if unbound:
        raise UnreachableError(f"{', '.join(unbound)} has lost its binding")
    errors = []
    for queue, result in zip(queues, results, strict=True):
        if isinstance(result, BaseException):
            errors.append(result)
        else:
            connections.liveness.ping_sent(queue)
    if errors:
        reason = str(errors[0]) or type(errors[0]).__name__
        get().warning("the broker accepts no messages", reason=reason)
    return not errors


async def _record_contact(s: Services) -> None:
    """Record that messages can arrive; an unreachable state database is no reason to restart."""
    try:
        await asyncio.to_thread(record_contact, s.state)
    except (DBAPIError, TisSyncError) as error:
        reason = reason_of(error)[:LONGEST_REASON]
        get().warning("the state database is unreachable", reason=reason)


def record_contact(state: Database, name: str = BROKER) -> None:
    """Record that another party is alive now, by the clock of the state database."""
    with state.write() as connection:
        now = time_in(connection)
        insert = state.upsert(t.last_contact).values(name=name, at=now)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"at": now}))


def last_contact(state: Database, name: str = BROKER) -> datetime | None:
    """Return when another party was last known to be alive; None if it never was.

    Compare it with the clock of the state database (`state.clock.time_of`).
    """
    statement = sa.select(t.last_contact.c.at).where(t.last_contact.c.name == name)
    with state.read() as connection:
        at: datetime | None = connection.scalar(statement)
    return at
