"""The AMQP client: connections, declarations and messages, and the translation of its errors.

Its packages are an optional extra, so this module is only imported inside functions that connect
first (see `connection.connected`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import (
    AuthenticationError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
)

from tis_sync.errors import TisSyncError, UnreachableError
from tis_sync.esr.messaging.connection import SETTING, redacted_url
from tis_sync.esr.messaging.topology import Exchange, Queue, Topology

CONNECT_SECONDS = 10
CONFIRM_SECONDS = 30
TEST_SECONDS = 60.0  # a test message that is not delivered by then expires
ACCESS_REFUSED = (AuthenticationError, ProbableAuthenticationError)
# What aio-pika raises when the broker fails; RuntimeError if the connection is already closed.
FAILURES = (AMQPError, OSError, TimeoutError, RuntimeError)
LONGEST_REASON = 200  # characters of the client's message that are shown


@dataclass(frozen=True)
class QueueCounts:
    """How many messages are ready in a queue, and how many consumers it has."""

    messages: int
    consumers: int


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[AbstractConnection]:
    """Open a connection, and close it at the end of the block.

    Args:
        url: the URL of the broker, with its password.

    Raises:
        UnreachableError: the broker does not answer, or refuses access.

    """
    try:
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
    except FAILURES as error:
        raise translate_error(error, url) from error
    try:
        yield connection
    except FAILURES as error:
        raise translate_error(error, url) from error
    finally:
        await connection.close()


def translate_error(error: BaseException, url: str) -> TisSyncError:
    """Translate a failure of the broker into an error that someone can act on.

    Args:
        error: what the client raised. Our own errors are returned unchanged.
        url: the URL of the broker, with its password.

    """
    if isinstance(error, TisSyncError):
        return error
    broker = f"The broker at {redacted_url(url)}"
    if isinstance(error, ACCESS_REFUSED):
        return UnreachableError(f"{broker} refuses the user or password; check {SETTING}.")
    if _is_vhost_refused(error):
        return UnreachableError(
            f"{broker}: the virtual host does not exist, or the user may not use it; check "
            f"{SETTING}."
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if password := urlsplit(url).password:
        reason = reason.replace(password, "***")
    return UnreachableError(
        f"{broker} does not answer ({reason[:LONGEST_REASON]}); check that it is running."
    )


def _is_vhost_refused(error: BaseException) -> bool:
    """Whether the broker refuses the virtual host.

    The client has no code for a virtual host that does not exist: it only reports that it expected
    a different answer (`Connection.OpenOk`).
    """
    return isinstance(error, ConnectionNotAllowed) or "Connection.OpenOk" in str(error)


async def declare(connection: AbstractConnection, expected: Topology) -> list[str]:
    """Create the exchanges, queues and bindings that are missing.

    Anything that exists but differs is left alone, because it may contain messages; `tis-sync
    doctor` reports how to fix it.

    Args:
        connection: a connection to the broker.
        expected: what must exist.

    Returns:
        How existing exchanges and queues differ, one line for each.

    """
    differences = [
        await declare_exchange(connection, exchange)
        for exchange in (expected.exchange, expected.dead_letter_exchange)
    ]
    differences += [await declare_queue(connection, queue) for queue in expected.queues()]
    channel = await connection.channel()
    for exchange_name, queue_name, key in sorted(expected.bindings()):
        queue = await channel.get_queue(queue_name, ensure=False)
        await queue.bind(exchange_name, key)
    await channel.close()
    return [difference for difference in differences if difference is not None]


# The broker closes a channel when it refuses a declaration, so each declaration opens its own.


async def declare_exchange(connection: AbstractConnection, exchange: Exchange) -> str | None:
    """Create an exchange if it is missing; return how an existing one differs, or None."""
    channel = await connection.channel()
    try:
        await channel.declare_exchange(exchange.name, exchange.kind, durable=True)
    except ChannelPreconditionFailed as error:
        return _difference(error)
    await channel.close()
    return None


async def declare_queue(connection: AbstractConnection, queue: Queue) -> str | None:
    """Create a queue if it is missing; return how an existing one differs, or None."""
    channel = await connection.channel()
    try:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    except ChannelPreconditionFailed as error:
        return _difference(error)
    await channel.close()
    return None


def _difference(error: BaseException) -> str:
    """Return the broker's description of a difference, without the leading code."""
    return str(error).removeprefix("PRECONDITION_FAILED - ")


async def exchange_exists(connection: AbstractConnection, exchange: Exchange) -> bool:
    """Whether an exchange exists, however it was declared."""
    channel = await connection.channel()
    try:
        await channel.declare_exchange(exchange.name, exchange.kind, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


async def queue_counts(connection: AbstractConnection, queue: str) -> QueueCounts | None:
    """Count the messages and consumers of a queue; None if it does not exist."""
    channel = await connection.channel()
    try:
        existing = await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return None
    await channel.close()
    result = existing.declaration_result
    return QueueCounts(result.message_count or 0, result.consumer_count or 0)


async def is_routed(connection: AbstractConnection, exchange: str, key: str, kind: str) -> bool:
    """Whether an exchange has a binding for a routing key, found with a test message.

    The broker returns a mandatory message that no binding matches. If one does, the message is
    delivered, so use this only for queues whose consumer ignores messages of this kind.

    Args:
        connection: a connection to the broker.
        exchange: the name of an existing exchange.
        key: the routing key.
        kind: the type of the message, by which its consumer recognises it.

    """
    channel = await publishing_channel(connection)
    try:
        target = await channel.get_exchange(exchange, ensure=False)
        message = aio_pika.Message(b"", type=kind, expiration=TEST_SECONDS)
        await target.publish(message, key, mandatory=True, timeout=CONFIRM_SECONDS)
    except PublishError:
        return False
    finally:
        await channel.close()
    return True


async def publishing_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel on which the broker confirms, or returns, each message."""
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


async def publish(channel: AbstractChannel, queue: str, body: bytes, **properties: Any) -> bool:
    """Publish a persistent message to a queue.

    Args:
        channel: see `publishing_channel`.
        queue: the name of the queue.
        body: the body of the message.
        properties: the properties of the message.

    Returns:
        False if the queue is missing or full.

    """
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
    try:
        await channel.default_exchange.publish(
            message, queue, mandatory=True, timeout=CONFIRM_SECONDS
        )
    except DeliveryError:
        return False
    return True
