"""The listener: declares the topology, takes messages, sends events; over again when cut off.

A broker that was emptied, or a queue that was deleted under a living connection, leaves a listener
deaf without telling it. So it looks every few seconds whether its connections live, its queues are
there and have consumers, and pings come through; where not it begins anew: connects, declares,
subscribes. Each time that all is well it says so in our state: silence is what the watch looks for.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import aio_pika
import sqlalchemy as sa
from aiormq.exceptions import ChannelPreconditionFailed
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from tis_sync.errors import TisSyncError, UnreachableError
from tis_sync.esr.broker import outbox
from tis_sync.esr.broker.application import Application, application
from tis_sync.esr.broker.connect import connected, explained, url_of
from tis_sync.esr.broker.ears import PING, PING_SECONDS, Ears
from tis_sync.esr.broker.intake import Intake, stored
from tis_sync.esr.broker.look import counts
from tis_sync.esr.broker.topology import Topology, topology
from tis_sync.logs import get
from tis_sync.runs.services import Services
from tis_sync.state import esr as t

BEAT_SECONDS = 5.0  # between two looks at the broker
IDLE_SECONDS = 0.5  # between two looks into an empty outbox
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 15.0
JOIN_SECONDS = 15.0
BROKER = "broker"  # its name in `esr_heard`


async def declare(connection: aio_pika.abc.AbstractConnection, wanted: Topology) -> list[str]:
    """Make what is not there, and bind it; returns what is there and is other than declared.

    What is other is left as it is: messages may lie in it. `tis-sync doctor` says how to mend it.
    """
    other = []
    for exchange in (wanted.exchange, wanted.dead_exchange):
        channel = await connection.channel()
        try:
            await channel.declare_exchange(exchange.name, exchange.type.value, durable=True)
            await channel.close()
        except ChannelPreconditionFailed as error:
            other.append(str(error))
    for queue in wanted.queues().values():
        channel = await connection.channel()
        try:
            await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
            await channel.close()
        except ChannelPreconditionFailed as error:
            other.append(str(error))
    channel = await connection.channel()
    for exchange_name, queue_name, key in sorted(wanted.bindings()):
        there = await channel.get_queue(queue_name, ensure=False)
        await there.bind(exchange_name, key)
    await channel.close()
    return other


async def serve(s: Services, stop: asyncio.Event) -> None:
    """Listen and send until `stop` is set."""
    url = url_of(s.settings)
    wait = FIRST_WAIT_SECONDS
    while not stop.is_set():
        try:
            async with _running(s, url) as running:
                get().info("listening", broker=BROKER)
                while not stop.is_set():
                    if await _beat(s, running):
                        await _say(s)
                    wait = FIRST_WAIT_SECONDS
                    await _passes(stop, BEAT_SECONDS)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  whatever it is, go on
            # When a connection ends, the client library cancels what waits for it.
            get().warning("not listening", reason=str(explained(error, url)), seconds=wait)
            await _passes(stop, wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _passes(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@dataclass(frozen=True)
class _Running:
    """What listens and sends at the moment; `lost` is set when a connection ends."""

    app: Application
    ears: Ears
    lost: asyncio.Event
    sending: asyncio.Task[None]


@asynccontextmanager
async def _running(s: Services, url: str) -> AsyncIterator[_Running]:
    """Everything declared, subscribed and sending, until the block ends."""
    wanted = topology(s.settings)
    async with connected(s.settings) as connection:
        for difference in await declare(connection, wanted):
            get().warning("drift at the broker", reason=difference)
    lost = asyncio.Event()
    ears = Ears([queue.name for queue in wanted.consumed()], time.monotonic)
    app = application(url, wanted, Intake(s), ears, lost.set)
    sending = None
    try:
        await app.sender.start()
        await app.taker.start()
        sending = asyncio.create_task(_send(s, app))
        yield _Running(app, ears, lost, sending)
    finally:
        if sending is not None:
            sending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await sending
        for broker in (app.taker, app.sender):
            with suppress(Exception):
                await asyncio.wait_for(broker.stop(), JOIN_SECONDS)


async def _beat(s: Services, running: _Running) -> bool:
    """Look whether we hear, and are heard; False: the broker takes no messages at the moment.

    Raises:
        UnreachableError: we are deaf, and have to begin anew.

    """
    if running.sending.done():
        running.sending.result()
    if running.lost.is_set():
        raise UnreachableError("the connection was lost")
    async with connected(s.settings) as connection:
        for queue in topology(s.settings).consumed():
            there = await counts(connection, queue)
            if there is None or not there.consumers:
                lack = "has gone" if there is None else "has no consumer"
                raise UnreachableError(f"queue {queue.name} {lack}")
    if deaf := running.ears.deaf():
        raise UnreachableError(f"nothing arrives from {', '.join(deaf)}, although it is sent there")
    quiet = running.ears.quiet()
    answers = await asyncio.gather(
        *(
            running.app.sender.publish(
                b"", name, message_type=PING, expiration=PING_SECONDS, timeout=BEAT_SECONDS
            )
            for name in quiet
        ),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    for name, answer in zip(quiet, answers, strict=True):
        if not isinstance(answer, BaseException):
            running.ears.pinged(name)
    for error in refused[:1]:
        get().warning("the broker takes no messages", reason=str(error) or type(error).__name__)
    return not refused


async def _say(s: Services) -> None:
    """Say in our state that all is well; a state that is away is no reason to listen anew."""
    try:
        await asyncio.to_thread(heard, s.state, s.clock())
    except (DBAPIError, TisSyncError) as error:
        get().warning("state does not answer", reason=" ".join(str(error).split())[:200])


async def _send(s: Services, app: Application) -> None:
    """Send what is in the outbox, for ever; what is not confirmed is unsent."""
    while True:
        events = await stored(lambda: asyncio.to_thread(outbox.claim, s.state, s.clock()))
        if not events:
            await asyncio.sleep(IDLE_SECONDS)
            continue
        results = await asyncio.gather(
            *(
                app.publishers[event.name].publish(
                    event.body,
                    message_id=event.message_id,
                    correlation_id=event.correlation,
                    headers={"deanery": event.deanery, "sourceFile": event.file},
                )
                for event in events
            ),
            return_exceptions=True,
        )
        failures = {
            event.id: result
            for event, result in zip(events, results, strict=True)
            if isinstance(result, BaseException)
        }
        done = [event.id for event in events if event.id not in failures]
        await stored(partial(asyncio.to_thread, outbox.sent, s.state, done, s.clock()))
        if failures:
            await stored(partial(asyncio.to_thread, outbox.unsent, s.state, list(failures)))
            reason = str(next(iter(failures.values())))[:200]
            get().warning("events not confirmed", count=len(failures), reason=reason)
            await asyncio.sleep(FIRST_WAIT_SECONDS)


def heard(state: sa.Engine, now: datetime, name: str = BROKER) -> None:
    """Somebody gave a sign of life."""
    dialect = postgresql if state.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(t.heard).values(name=name, at=now)
    with state.execution_options(writes=True).begin() as connection:
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"at": now}))


def last_heard(state: sa.Engine, name: str = BROKER) -> datetime | None:
    """When somebody gave the last sign of life."""
    with state.connect() as connection:
        found: datetime | None = connection.scalar(
            sa.select(t.heard.c.at).where(t.heard.c.name == name)
        )
    return found


@contextmanager
def listening(s: Services) -> Iterator[None]:
    """Listen and send in a thread of its own while the block lasts; not at all without a broker."""
    if s.settings.broker_url is None:
        yield
        return
    url_of(s.settings)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve(s, stop))

    thread = threading.Thread(target=run, name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(2 * JOIN_SECONDS)
