"""Dead letters: moved with their reason to the state database, sent back or discarded on request.

A message becomes a dead letter if it can never be used (we add the reason), or if it was delivered
too often or not consumed in time (the broker adds the reason). All of them arrive in `esr.dlq`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UnreachableError, UsageError
from tis_sync.esr.messaging.connection import connected
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

QUEUE_HEADER, REASON_HEADER, TIME_HEADER = "x-died-in", "x-reason", "x-died-at"
BROKER_REASONS = {
    "delivery_limit": "it was delivered too often without being acknowledged: its consumer failed "
    "each time; the log contains the reason",
    "expired": "it was not consumed in time",
    "rejected": "its consumer rejected it",
    "maxlen": "the queue was full",
}
NO_REASON = "it was published here directly"
# The properties that a message keeps when it is sent back, besides its id and its headers.
PROPERTIES = ("content_type", "correlation_id", "type", "app_id")
QUEUE_LENGTH, MESSAGE_ID_LENGTH = 100, 200  # characters that our table can store


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter. Times are UTC.

    Attributes:
        id: our id.
        queue: the queue in which the message died, and to which it is sent back.
        message_id: the id that its sender gave it.
        reason: why it died.
        died_at: when it died.
        received_at: when we stored it.
        retried_at: when it was sent back; None while it is waiting.
        properties: the properties of the message: type, correlation id, headers and so on.
        body: the body of the message.

    """

    id: str
    queue: str
    message_id: str | None
    reason: str
    died_at: datetime
    received_at: datetime
    retried_at: datetime | None
    properties: dict[str, Any]
    body: bytes


def headers(queue: str, reason: str, now: datetime) -> dict[str, str]:
    """Return the headers that we add to a message when we publish it as a dead letter.

    Args:
        queue: the queue that it comes from.
        reason: why it can never be used.
        now: the current time.

    """
    return {QUEUE_HEADER: queue, REASON_HEADER: reason, TIME_HEADER: now.isoformat()}


def store(state: Database, message: "AbstractIncomingMessage", now: datetime) -> DeadLetter:
    """Store a dead letter; one that is already stored is left unchanged.

    Args:
        state: the state database.
        message: a message from the dead-letter queue.
        now: the current time.

    """
    plain = {k: v for k, v in message.headers.items() if isinstance(v, str | int | float | bool)}
    queue, reason, died = _cause_of(message, plain)
    queue, reason = _storable(queue)[:QUEUE_LENGTH], _storable(reason)
    identity = f"{queue}/{message.message_id}/{died}/{message.body.hex()}"
    properties = {name: getattr(message, name) for name in PROPERTIES}
    properties["headers"] = {k: v for k, v in plain.items() if not k.startswith("x-")}
    values = {
        "id": str(uuid5(NAMESPACE_URL, identity)),
        "queue": queue,
        "message_id": message.message_id and _storable(message.message_id)[:MESSAGE_ID_LENGTH],
        "reason": reason,
        "died_at": _parse_time(died) or now,
        "received_at": now,
        "properties": json.dumps({k: v for k, v in properties.items() if v is not None}),
        "body": message.body,
    }
    with state.write() as connection:
        insert = state.upsert(t.dead_letter).on_conflict_do_nothing()
        connection.execute(insert, values)
    return _all(state, sa.select(t.dead_letter).where(t.dead_letter.c.id == values["id"]))[0]


def _cause_of(
    message: "AbstractIncomingMessage", plain: Mapping[str, object]
) -> tuple[str, str, object]:
    """Where, why and when a message died, from our headers or else from the broker's."""
    if QUEUE_HEADER in plain:
        reason = str(plain.get(REASON_HEADER, "?"))
        return str(plain[QUEUE_HEADER]), reason, plain.get(TIME_HEADER)
    deaths = message.headers.get("x-death")
    last: Mapping[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}  # type: ignore[assignment]
    reason = str(last.get("reason") or NO_REASON)
    queue = str(last.get("queue") or message.routing_key or "?")
    return queue, BROKER_REASONS.get(reason, reason), last.get("time")


def _storable(text: str) -> str:
    """Return a text without NUL characters, which PostgreSQL cannot store."""
    return text.replace("\x00", "?")


def _parse_time(value: object) -> datetime | None:
    """Return a time of death: text in our header, or the broker's UTC without a zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def waiting(state: Database) -> list[DeadLetter]:
    """Return the dead letters that have not been sent back, oldest first."""
    unsent = t.dead_letter.c.retried_at.is_(None)
    order = (t.dead_letter.c.died_at, t.dead_letter.c.id)
    return _all(state, sa.select(t.dead_letter).where(unsent).order_by(*order))


def oldest_per_queue(state: Database) -> dict[str, str]:
    """Return the queues with waiting dead letters, each with the reason of the oldest one."""
    position = sa.func.row_number().over(
        partition_by=t.dead_letter.c.queue, order_by=(t.dead_letter.c.died_at, t.dead_letter.c.id)
    )
    ranked = (
        sa.select(t.dead_letter.c.queue, t.dead_letter.c.reason, position.label("position"))
        .where(t.dead_letter.c.retried_at.is_(None))
        .subquery()
    )
    oldest = sa.select(ranked.c.queue, ranked.c.reason).where(ranked.c.position == 1)
    with state.read() as connection:
        return {row.queue: row.reason for row in connection.execute(oldest)}


def alarm_details(queue: str, reason: str) -> str:
    """Return the details of the alarm about the dead letters of a queue.

    Args:
        queue: the queue in which they died.
        reason: why the oldest one died.

    """
    return f"Messages in {queue} could not be used. The oldest one: {reason.rstrip('.')}."


def get(state: Database, letter_id: str) -> DeadLetter:
    """Find a waiting dead letter by its id, or by a unique prefix of it.

    Raises:
        NotFoundError: no waiting dead letter matches.
        UsageError: several match.

    """
    matches = [letter for letter in waiting(state) if letter.id.startswith(letter_id)]
    if not matches:
        raise NotFoundError(
            f"No dead letter has an id that begins with {letter_id!r}; `tis-sync esr dead list` "
            "lists them."
        )
    if len(matches) > 1:
        raise UsageError(
            f"Several dead letters have ids that begin with {letter_id!r}; "
            "`tis-sync esr dead list` lists them."
        )
    return matches[0]


async def send_back(
    settings: Settings, state: Database, letters: Sequence[DeadLetter], now: datetime
) -> None:
    """Send dead letters back to the queues in which they died, with their own message ids.

    Each one is marked after the broker has confirmed it. If this process is killed in between, the
    message is sent twice, but because of its id it is used once. One that its queue refuses does
    not hold back the others.

    Args:
        settings: the configuration, which names the broker.
        state: the state database.
        letters: the dead letters.
        now: the current time.

    Raises:
        UnreachableError: the broker does not answer, or a queue is missing or full; the message
            names the dead letters that were not sent back.

    """
    refused: list[DeadLetter] = []
    async with connected(settings) as connection:
        from tis_sync.esr.messaging import amqp

        channel = await amqp.publishing_channel(connection)
        for letter in letters:
            properties = {**letter.properties, "message_id": letter.message_id}
            if not await amqp.publish(channel, letter.queue, letter.body, **properties):
                refused.append(letter)
                continue
            with state.write() as write:
                write.execute(
                    sa.update(t.dead_letter)
                    .where(t.dead_letter.c.id == letter.id)
                    .values(retried_at=now)
                )
    if refused:
        raise _refusal(refused, len(letters) - len(refused))


def _refusal(refused: Sequence[DeadLetter], sent: int) -> UnreachableError:
    """The error for dead letters that their queues refuse, and the number of those sent back."""
    names = ", ".join(letter.id[:8] for letter in refused)
    queues = sorted({letter.queue for letter in refused})
    subject = "queue" if len(queues) == 1 else "queues"
    verb = "is" if len(queues) == 1 else "are"
    return UnreachableError(
        f"The broker refused {len(refused):,} dead letters ({names}): {subject} "
        f"{', '.join(queues)} {verb} missing or full. See `tis-sync doctor`, or discard them: "
        f"`tis-sync esr dead discard ID`. {sent:,} {'was' if sent == 1 else 'were'} sent back."
    )


def discard(state: Database, letters: Sequence[DeadLetter]) -> int:
    """Delete dead letters that have not been sent back; return how many were deleted."""
    table = t.dead_letter
    ids = table.c.id.in_([letter.id for letter in letters])
    with state.write() as connection:
        deleted = connection.execute(sa.delete(table).where(ids, table.c.retried_at.is_(None)))
        return int(deleted.rowcount)


def _all(state: Database, statement: sa.Select[Any]) -> list[DeadLetter]:
    with state.read() as connection:
        rows = connection.execute(statement).mappings().all()
    return [
        DeadLetter(
            **{**row, "properties": json.loads(row["properties"]), "body": bytes(row["body"])}
        )
        for row in rows
    ]
