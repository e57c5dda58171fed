"""The application on the broker: what is subscribed to, what is published; and its AsyncAPI page.

Two connections: when the broker runs out of memory it stops the connections that publish, and the
one that acknowledges must not be among them.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from faststream import AckPolicy, BaseMiddleware
from faststream.message import StreamMessage
from faststream.rabbit import (
    Channel,
    QueueType,
    RabbitBroker,
    RabbitMessage,
    RabbitQueue,
    RabbitRouter,
)
from faststream.rabbit.message import RabbitMessage as Taken
from faststream.rabbit.publisher import RabbitPublisher
from faststream.specification.asyncapi import AsyncAPI
from faststream.specification.base import Specification

from tis_sync import __version__
from tis_sync.esr.broker.connect import FAILURES
from tis_sync.esr.broker.ears import PING, Ears
from tis_sync.esr.broker.intake import AT_ONCE, Intake, reason_of
from tis_sync.esr.broker.messages import (
    AppFileCommand,
    AppRecord,
    FileGenerated,
    NotificationFileCommand,
    RecordExported,
)
from tis_sync.esr.broker.topology import (
    APP_COMMANDS,
    FILE_GENERATED,
    LETTERS,
    NOTIFICATION_COMMANDS,
    RECORD_EXPORTED,
    RECORDS,
    Topology,
    topology,
)
from tis_sync.runs.services import Services
from tis_sync.settings import Settings

Bury = Callable[[Taken, str, Exception], Awaitable[None]]
Handler = TypeVar("Handler", bound=Callable[..., Any])
APP_ID = "ESR"
CONFIRM_SECONDS = 30.0  # an event that is not confirmed by then is unsent
REFUSED_SECONDS = 2.0  # before a message that the dead letters did not take is delivered again
GRACE_SECONDS = 5.0  # a listener that is asked to stop lets messages under way be stored


@dataclass(frozen=True)
class Application:
    """What listens, and what sends: not yet connected.

    Attributes:
        taker: subscribed to our queues.
        sender: publishes, with confirms.
        publishers: by the name of the event.

    """

    taker: RabbitBroker
    sender: RabbitBroker
    publishers: dict[str, RabbitPublisher]


def application(
    url: str, wanted: Topology, intake: Intake, ears: Ears, lost: Callable[[], None]
) -> Application:
    """Declare what is subscribed to and published.

    Args:
        url: of the broker.
        wanted: its queues and exchanges.
        intake: what becomes of messages.
        ears: note which queues are heard.
        lost: called when a connection ends.

    """
    channel = Channel(prefetch_count=AT_ONCE, on_return_raises=True)
    common: dict[str, Any] = {
        "default_channel": channel, "logger": None, "graceful_timeout": GRACE_SECONDS,
        "specification_url": "amqp://BROKER/VHOST", "on_close": (lambda *_: lost(),),
    }  # fmt: skip
    sender = RabbitBroker(url, app_id=APP_ID, **common)
    publishers = {
        name: sender.publisher(
            wanted.events[name], wanted.exchange, persist=True, mandatory=True,
            timeout=CONFIRM_SECONDS, message_type=name, title=name, schema=schema,
            description=schema.__doc__,
        )
        for name, schema in ((RECORD_EXPORTED, RecordExported), (FILE_GENERATED, FileGenerated))
    }  # fmt: skip

    async def bury(message: Taken, queue: str, error: Exception) -> None:
        raw = message.raw_message
        await sender.publish(
            raw.body,
            exchange=wanted.dead_exchange,
            persist=True,
            mandatory=True,
            timeout=CONFIRM_SECONDS,
            message_id=raw.message_id,
            correlation_id=raw.correlation_id,
            message_type=raw.type,
            content_type=raw.content_type,
            headers={**raw.headers, **intake.obituary(message, queue, reason_of(error))},
        )
        await message.ack()

    taker = RabbitBroker(url, app_id=APP_ID, **common)

    def subscriber(
        queue: str, title: str, decoder: Any, bury: Bury | None
    ) -> Callable[[Handler], Handler]:
        router = RabbitRouter(middlewares=(_ear(queue, ears, bury),))
        made = router.subscriber(
            # Should the queue be deleted, its consumer ends with it. The client library would
            # consume again on the same channel; the listener begins anew instead.
            RabbitQueue(queue, queue_type=QueueType.QUORUM, declare=False, robust=False),
            wanted.exchange if bury else None,
            title=title,
            decoder=decoder,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )

        def register(handler: Handler) -> Handler:
            made(handler)
            taker.include_router(router)
            return handler

        return register

    @subscriber(wanted.taken[RECORDS].name, RECORDS, _decode, bury)
    async def app_record(record: AppRecord, message: RabbitMessage) -> None:
        """Take a record from elsewhere; one that comes again replaces it until it is sent."""
        await intake.record(record, message, wanted.taken[RECORDS].name)
        await message.ack()

    @subscriber(wanted.taken[APP_COMMANDS].name, APP_COMMANDS, _decode, bury)
    async def app_file(command: AppFileCommand, message: RabbitMessage) -> None:
        """Export the applicants of a deanery; once however often the message comes."""
        await intake.command(command, message)
        await message.ack()

    @subscriber(wanted.taken[NOTIFICATION_COMMANDS].name, NOTIFICATION_COMMANDS, _decode, bury)
    async def notification_file(command: NotificationFileCommand, message: RabbitMessage) -> None:
        """Export the notifications of a deanery; once however often the message comes."""
        await intake.command(command, message)
        await message.ack()

    @subscriber(wanted.letters.name, LETTERS, _undecoded, None)
    async def dead_letter(body: bytes, message: RabbitMessage) -> None:  # noqa: ARG001
        """Keep a dead letter with its reason, until a person has it sent again."""
        await intake.letter(message)
        await message.ack()

    return Application(taker, sender, publishers)


def _ear(queue: str, ears: Ears, bury: Bury | None) -> type[BaseMiddleware[Any, Any]]:
    """Note what comes from a queue. What makes no sense is buried; the rest goes on."""

    class Ear(BaseMiddleware[Any, Any]):
        async def consume_scope(
            self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]
        ) -> Any:
            assert isinstance(msg, Taken)
            with ears.hears(queue):
                if msg.raw_message.type == PING:
                    return await msg.ack()
                try:
                    return await call_next(msg)
                except Exception as error:
                    if bury is None:
                        raise
                    try:
                        await bury(msg, queue, error)
                    except FAILURES:
                        await asyncio.sleep(REFUSED_SECONDS)
                        await msg.nack(requeue=True)

    return Ear


async def _decode(message: Taken) -> Any:
    """JSON, whatever the content type claims."""
    return json.loads(message.body)


async def _undecoded(message: Taken) -> bytes:
    return message.body


def contract(settings: Settings) -> Specification:
    """The message contract as an AsyncAPI document, under the names of the settings."""
    nobody = Ears((), time.monotonic)
    intake = Intake(Services(settings))
    made = application("amqp://broker", topology(settings), intake, nobody, lambda: None)
    described = AsyncAPI(
        made.taker,
        made.sender,
        title="tis-sync",
        version=__version__,
        description="What tis-sync takes from RabbitMQ, and what it tells. In words: "
        "docs/messages.md.",
    )
    return described.to_specification()
