"""Dead letters: taken from the broker into our state with their reason, and sent again.

A message dies when what it says makes no sense (we say why), when it was delivered too often, or
when nobody fetched it in time (the broker says so). All of them pass through `esr.dlq`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import aio_pika
import sqlalchemy as sa
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError
from sqlalchemy.dialects import postgresql, sqlite

from tis_sync.errors import NotFoundError, UnreachableError, UsageError
from tis_sync.esr.broker.connect import connected
from tis_sync.settings import Settings
from tis_sync.state import esr as t

QUEUE_HEADER, REASON_HEADER, DIED_HEADER = "x-died-in", "x-reason", "x-died-at"
CONFIRM_SECONDS = 30
BY_BROKER = {
    "delivery_limit": "it was delivered too often and never acknowledged: whoever took it failed "
    "each time; the log tells how",
    "expired": "nobody fetched it in time",
    "rejected": "whoever took it refused it",
    "maxlen": "the queue was full",
}
# Of a message's properties, those that it is sent again with.
PROPERTIES = ("content_type", "correlation_id", "type", "app_id")


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        id: its id with us.
        queue: where it died, and where it goes when it is sent again.
        message_id: the id that its sender gave it.
        reason: why it died.
        properties: of the message: type, correlation id, headers and so on.
        retried_at: when it was sent again; None while it waits for a person.

    """

    id: str
    queue: str
    message_id: str | None
    reason: str
    died_at: datetime
    taken_at: datetime
    retried_at: datetime | None
    properties: dict[str, Any]
    body: bytes


def obituary(queue: str, reason: str, now: datetime) -> dict[str, str]:
    """Headers for a message that we send to the dead letters ourselves."""
    return {QUEUE_HEADER: queue, REASON_HEADER: reason, DIED_HEADER: now.isoformat()}


def take(state: sa.Engine, message: AbstractIncomingMessage, now: datetime) -> Letter:
    """Store a dead letter; the same one again changes nothing."""
    headers = {k: v for k, v in message.headers.items() if isinstance(v, str | int | float | bool)}
    deaths = message.headers.get("x-death")
    last: Mapping[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}  # type: ignore[assignment]
    died: object
    if QUEUE_HEADER in headers:
        queue, reason = str(headers[QUEUE_HEADER]), str(headers.get(REASON_HEADER, "?"))
        died = headers.get(DIED_HEADER)
    else:
        queue = str(last.get("queue") or message.routing_key or "?")
        why = str(last.get("reason") or "it was sent here")
        reason, died = BY_BROKER.get(why, why), last.get("time")
    queue, reason = queue.replace("\x00", "?")[:100], reason.replace("\x00", "?")
    identity = f"{queue}/{message.message_id}/{died}/{message.body.hex()}"
    properties = {name: getattr(message, name) for name in PROPERTIES}
    properties["headers"] = {k: v for k, v in headers.items() if not k.startswith("x-")}
    values = {
        "id": str(uuid5(NAMESPACE_URL, identity)),
        "queue": queue,
        "message_id": message.message_id and message.message_id.replace("\x00", "?")[:200],
        "reason": reason,
        "died_at": _moment(died) or now,
        "taken_at": now,
        "properties": json.dumps({k: v for k, v in properties.items() if v is not None}),
        "body": message.body,
    }
    dialect = postgresql if state.dialect.name == "postgresql" else sqlite
    with state.execution_options(writes=True).begin() as connection:
        insert = dialect.insert(t.letter).on_conflict_do_nothing()
        connection.execute(insert, values)
    return _all(state, sa.select(t.letter).where(t.letter.c.id == values["id"]))[0]


def _moment(said: object) -> datetime | None:
    """When a message died, as the broker (UTC, without zone) or our header says it."""
    if isinstance(said, str):
        try:
            said = datetime.fromisoformat(said)
        except ValueError:
            return None
    if not isinstance(said, datetime):
        return None
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def waiting(state: sa.Engine) -> list[Letter]:
    """The letters that wait for a person, oldest first."""
    unsent = t.letter.c.retried_at.is_(None)
    return _all(
        state, sa.select(t.letter).where(unsent).order_by(t.letter.c.died_at, t.letter.c.id)
    )


def first_of_each(state: sa.Engine) -> dict[str, str]:
    """The queues in which letters that wait have died, each with the reason of the oldest."""
    place = sa.func.row_number().over(
        partition_by=t.letter.c.queue, order_by=(t.letter.c.died_at, t.letter.c.id)
    )
    ranked = (
        sa.select(t.letter.c.queue, t.letter.c.reason, place.label("place"))
        .where(t.letter.c.retried_at.is_(None))
        .subquery()
    )
    oldest = sa.select(ranked.c.queue, ranked.c.reason).where(ranked.c.place == 1)
    with state.connect() as connection:
        return {row.queue: row.reason for row in connection.execute(oldest)}


def named(state: sa.Engine, letter_id: str) -> Letter:
    """A letter that waits, by its id or the beginning of it.

    Raises:
        UsageError: no letter, or several, begin so.

    """
    found = [letter for letter in waiting(state) if letter.id.startswith(letter_id)]
    if len(found) != 1:
        many = "Several dead letters begin" if found else "No dead letter begins"
        kind = UsageError if found else NotFoundError
        raise kind(f"{many} with {letter_id!r}; see `tis-sync esr dead list`.")
    return found[0]


async def send_again(
    settings: Settings, state: sa.Engine, letters: Sequence[Letter], now: datetime
) -> None:
    """Send letters back to the queues in which they died, with their own message ids.

    Each is marked when the broker has confirmed it; killed between the two, it is sent once more,
    and its id sees to it that it is taken once.

    Raises:
        UnreachableError: the broker does not answer, or a queue is no longer there.

    """
    async with connected(settings) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        for letter in letters:
            message = aio_pika.Message(
                letter.body,
                message_id=letter.message_id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                **letter.properties,
            )
            try:
                await channel.default_exchange.publish(
                    message, letter.queue, mandatory=True, timeout=CONFIRM_SECONDS
                )
            except DeliveryError:
                raise UnreachableError(
                    f"The broker did not take letter {letter.id[:8]}: there is no queue "
                    f"{letter.queue}, or it is full; see `tis-sync doctor`."
                ) from None
            with state.execution_options(writes=True).begin() as write:
                write.execute(
                    sa.update(t.letter).where(t.letter.c.id == letter.id).values(retried_at=now)
                )


def _all(state: sa.Engine, statement: sa.Select[Any]) -> list[Letter]:
    with state.connect() as connection:
        rows = connection.execute(statement).mappings().all()
    return [
        Letter(**{**row, "properties": json.loads(row["properties"]), "body": bytes(row["body"])})
        for row in rows
    ]
