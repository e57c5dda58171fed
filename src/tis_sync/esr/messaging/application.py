"""The FastStream application: what we subscribe to and publish, and its AsyncAPI document.

It uses two connections, because a broker that runs out of memory blocks the connections that
publish, and acknowledgements must still get through.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from faststream import AckPolicy, BaseMiddleware
from faststream.message import StreamMessage
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
    RabbitRouter,
)

# FastStream also has a type alias called RabbitMessage; isinstance needs the class.
from faststream.rabbit.message import RabbitMessage as ReceivedMessage
from faststream.rabbit.publisher import RabbitPublisher
from faststream.specification.asyncapi import AsyncAPI
from faststream.specification.base import Specification

from tis_sync import __version__
from tis_sync.esr.messaging.amqp import FAILURES
from tis_sync.esr.messaging.contract import (
    PING,
    AppFileCommand,
    AppRecord,
    FileGenerated,
    NotificationFileCommand,
    RecordExported,
)
from tis_sync.esr.messaging.handlers import BATCH, Handlers
from tis_sync.esr.messaging.topology import (
    APP_COMMANDS,
    DEAD_LETTER_QUEUE,
    FILE_GENERATED,
    NOTIFICATION_COMMANDS,
    RECORD_EXPORTED,
    RECORDS,
    Exchange,
    Topology,
    topology,
)
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

Delivery = Callable[[str], AbstractContextManager[object]]
DeadLetter = Callable[[ReceivedMessage, str, Exception], Awaitable[None]]
Handler = TypeVar("Handler", bound=Callable[..., Any])
APP_ID = "ESR"
CONFIRM_SECONDS = 30.0  # an event that is not confirmed by then is unsent
REDELIVERY_SECONDS = 2.0  # wait before requeueing a message that could not become a dead letter
SHUTDOWN_SECONDS = 5.0  # time to finish handling messages at shutdown


@dataclass(frozen=True)
class Application:
    """The consumer and the publisher, not yet connected.

    Attributes:
        consumer: subscribed to our queues.
        publisher: publishes with confirms.
        events: publishes an event, by the name of the event.
        ping: sends a ping to a queue that we consume, through its exchange. Its arguments are the
            name of the queue, and how long the ping lives and how long to wait for the broker, in
            seconds.

    """

    consumer: RabbitBroker
    publisher: RabbitBroker
    events: dict[str, RabbitPublisher]
    ping: Callable[[str, float, float], Awaitable[Any]]

    async def reopen_publisher(self) -> None:
        """Publish through a new channel of the same connection from now on."""
        channel = await self.publisher.config.channel_manager.get_channel()
        await channel.close()
        await channel.reopen()


def application(
    url: str,
    declared: Topology,
    handlers: Handlers,
    delivery: Delivery,
    on_close: Callable[[], None],
) -> Application:
    """Declare the subscriptions and publications.

    Args:
        url: the URL of the broker, with its password.
        declared: its exchanges and queues.
        handlers: handle the messages.
        delivery: a context manager that notes a delivery from a queue and lasts while the message
            is being handled.
        on_close: called when a connection is closed.

    """
    channel = Channel(prefetch_count=BATCH, on_return_raises=True)
    common: dict[str, Any] = {
        "default_channel": channel, "logger": None, "graceful_timeout": SHUTDOWN_SECONDS,
        "specification_url": "amqp://BROKER/VHOST", "on_close": (lambda *_: on_close(),),
    }  # fmt: skip
    publisher = RabbitBroker(url, app_id=APP_ID, **common)
    exchange = _exchange(declared.exchange)
    events = {
        name: publisher.publisher(
            _queue(declared.events[name].name), exchange, persist=True, mandatory=True,
            timeout=CONFIRM_SECONDS, message_type=name, title=name, schema=schema,
            description=schema.__doc__,
        )
        for name, schema in ((RECORD_EXPORTED, RecordExported), (FILE_GENERATED, FileGenerated))
    }  # fmt: skip

    async def dead_letter(message: ReceivedMessage, queue: str, error: Exception) -> None:
        raw = message.raw_message
        await publisher.publish(
            raw.body,
            exchange=_exchange(declared.dead_letter_exchange),
            persist=True,
            mandatory=True,
            timeout=CONFIRM_SECONDS,
            message_id=raw.message_id,
            correlation_id=raw.correlation_id,
            message_type=raw.type,
            content_type=raw.content_type,
            headers=handlers.dead_letter_headers(message, queue, error),
        )
        await message.ack()

    def ping(queue: str, lifetime: float, timeout: float) -> Awaitable[Any]:
        is_dead = queue == declared.dead_letters.name
        through = declared.dead_letter_exchange if is_dead else declared.exchange
        return publisher.publish(
            b"", exchange=_exchange(through), routing_key=queue, mandatory=True,
            message_type=PING, expiration=lifetime, timeout=timeout,
        )  # fmt: skip

    consumer = RabbitBroker(url, app_id=APP_ID, **common)

    def subscriber(
        queue: str, title: str, decoder: Any, dead_letter: DeadLetter | None
    ) -> Callable[[Handler], Handler]:
        router = RabbitRouter(middlewares=(_middleware(queue, delivery, dead_letter),))
        subscription = router.subscriber(
            _queue(queue),
            exchange if dead_letter else None,
            title=title,
            decoder=decoder,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )

        def register(handler: Handler) -> Handler:
            subscription(handler)
            consumer.include_router(router)
            return handler

        return register

    @subscriber(declared.inputs[RECORDS].name, RECORDS, _decode, dead_letter)
    async def app_record(record: AppRecord, message: RabbitMessage) -> None:
        """Store a record from another system; a later message replaces it until it is sent."""
        await handlers.record(record, message, declared.inputs[RECORDS].name)
        await message.ack()

    @subscriber(declared.inputs[APP_COMMANDS].name, APP_COMMANDS, _decode, dead_letter)
    async def app_file(command: AppFileCommand, message: RabbitMessage) -> None:
        """Export the applicants of a deanery once, however often the message is delivered."""
        await handlers.command(command, message)
        await message.ack()

    @subscriber(
        declared.inputs[NOTIFICATION_COMMANDS].name, NOTIFICATION_COMMANDS, _decode, dead_letter
    )
    async def notification_file(command: NotificationFileCommand, message: RabbitMessage) -> None:
        """Export the notifications of a deanery once, however often the message is delivered."""
        await handlers.command(command, message)
        await message.ack()

    @subscriber(declared.dead_letters.name, DEAD_LETTER_QUEUE, _do_not_decode, None)
    async def stored_dead_letter(body: bytes, message: RabbitMessage) -> None:  # noqa: ARG001
        """Store a dead letter with its reason, until someone sends it back."""
        await handlers.dead_letter(message)
        await message.ack()

    return Application(consumer, publisher, events, ping)


def _exchange(exchange: Exchange) -> RabbitExchange:
    return RabbitExchange(exchange.name, type=ExchangeType(exchange.kind), durable=True)


def _queue(name: str) -> RabbitQueue:
    """Return a queue that `topology.declare` has declared.

    If a queue is deleted, its consumer ends. The client library must not resume on the same channel
    (`robust`), because our own consumer reconnects and declares everything again.
    """
    return RabbitQueue(name, queue_type=QueueType.QUORUM, declare=False, robust=False)


def _middleware(
    queue: str, delivery: Delivery, dead_letter: DeadLetter | None
) -> type[BaseMiddleware[Any, Any]]:
    """Note every delivery, acknowledge pings, and turn messages that fail into dead letters."""

    class DeliveryMiddleware(BaseMiddleware[Any, Any]):
        async def consume_scope(
            self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]
        ) -> Any:
            assert isinstance(msg, ReceivedMessage)
            with delivery(queue):
                if msg.raw_message.type == PING:
                    return await msg.ack()
                try:
                    return await call_next(msg)
                except Exception as error:
                    if dead_letter is None:
                        raise
                    try:
                        await dead_letter(msg, queue, error)
                    except FAILURES:
                        await asyncio.sleep(REDELIVERY_SECONDS)
                        await msg.nack(requeue=True)

    return DeliveryMiddleware


async def _decode(message: ReceivedMessage) -> Any:
    """Decode JSON, whatever content type the message declares."""
    return json.loads(message.body)


async def _do_not_decode(message: ReceivedMessage) -> bytes:
    return message.body


def asyncapi_document(settings: Settings) -> Specification:
    """Return the message contract as an AsyncAPI document, under the names of the settings.

    No server is contacted.
    """

    def no_export(*_: object, **__: object) -> None:
        """Stand in for the export, which a document does not need."""

    described = application(
        "amqp://broker",
        topology(settings),
        Handlers(Services(settings), no_export),
        nullcontext,
        lambda: None,
    )
    document = AsyncAPI(
        described.consumer,
        described.publisher,
        title="tis-sync",
        version=__version__,
        description="The messages that tis-sync receives from RabbitMQ, and the events that it "
        "publishes. docs/messages.md describes them.",
    )
    return document.to_specification()
