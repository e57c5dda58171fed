"""The outbox: events are published again and again until the broker confirms them.

`esr.export.events` writes them in the transaction that makes the records EXPORTED.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import UnreachableError
from tis_sync.esr.messaging.batching import retried
from tis_sync.esr.messaging.contract import FileGenerated, RecordExported
from tis_sync.esr.messaging.topology import FILE_GENERATED, RECORD_EXPORTED
from tis_sync.logs import get
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t
from tis_sync.state.clock import time_in

if TYPE_CHECKING:
    from tis_sync.esr.messaging.application import Application

BATCH = 200  # events that are published at a time
IDLE_SECONDS = 0.5  # between two reads of an empty outbox
UNCONFIRMED_SECONDS = 1.0  # before unconfirmed events are published again
REFUSED_ATTEMPTS = 10  # in a row, before events are published through a new channel
LONGEST_REASON = 200  # characters of an error that are logged
LEASE_SECONDS = 60.0  # a process that has been sending an event for longer is considered dead


@dataclass(frozen=True)
class Event:
    """An event to be published.

    Attributes:
        id: its position in the outbox.
        message_id: the same each time the event is sent.
        name: `esr.apprecord.exported` or `esr.file.generated`.
        correlation_id: the id of the command that created the file.
        deanery: the deanery of the file.
        file: the name of the file.
        body: the content of the message.

    """

    id: int
    message_id: str
    name: str
    correlation_id: str
    deanery: str
    file: str
    body: RecordExported | FileGenerated


def claim(state: Database, limit: int = BATCH) -> list[Event]:
    """Claim the oldest unsent events, so that no other process sends them at the same time.

    Args:
        state: the state database; claims expire by its clock.
        limit: the maximum number of events.

    """
    unsent = t.outbox.c.sent_at.is_(None)
    with state.read() as connection:
        if connection.scalar(sa.select(t.outbox.c.id).where(unsent).limit(1)) is None:
            return []
        free = sa.and_(unsent, _is_unclaimed(time_in(connection)))
        oldest = sa.select(t.outbox.c.id).where(free).order_by(t.outbox.c.id).limit(limit)
        ids = list(connection.scalars(oldest))
    if not ids:
        return []
    with state.write() as connection:
        now = time_in(connection)
        free = sa.and_(unsent, _is_unclaimed(now))
        claim = sa.update(t.outbox).where(t.outbox.c.id.in_(ids), free).values(claimed_at=now)
        claimed = list(connection.scalars(claim.returning(t.outbox.c.id)))
        return [*_record_events(connection, claimed), *_file_events(connection, claimed)]


def _is_unclaimed(now: datetime) -> sa.ColumnElement[bool]:
    """Whether no process that may be alive has claimed an event."""
    claimed_at = t.outbox.c.claimed_at
    return sa.or_(claimed_at.is_(None), claimed_at < now - timedelta(seconds=LEASE_SECONDS))


def _record_events(connection: sa.Connection, ids: Sequence[int]) -> list[Event]:
    statement = (
        sa.select(t.outbox, t.record, t.file.c.reported_at)
        .join(t.record, t.record.c.id == t.outbox.c.subject)
        .join(t.file, t.file.c.name == t.record.c.file)
        .where(t.outbox.c.id.in_(ids), t.outbox.c.event == RECORD_EXPORTED)
        .order_by(t.outbox.c.id)
    )
    return [
        _event(
            row, row.deanery, row.file,
            RecordExported(
                record_id=row.subject, placement_id=row.placement_id,
                position_id=row.position_id, position_number=row.position_number,
                post_number=row.post_number, deanery=row.deanery, file_name=row.file,
                exported_at=row.reported_at,
            ),
        )
        for row in connection.execute(statement)
    ]  # fmt: skip


def _file_events(connection: sa.Connection, ids: Sequence[int]) -> list[Event]:
    statement = (
        sa.select(t.outbox, t.file)
        .join(t.file, t.file.c.name == t.outbox.c.subject)
        .where(t.outbox.c.id.in_(ids), t.outbox.c.event == FILE_GENERATED)
        .order_by(t.outbox.c.id)
    )
    return [
        _event(
            row, row.deanery, row.name,
            FileGenerated(
                file_name=row.name, file_type=row.file_type, deanery=row.deanery, day=row.day,
                number=row.number, records=row.records, size=row.size, sha256=row.sha256,
                written_at=row.written_at,
            ),
        )
        for row in connection.execute(statement)
    ]  # fmt: skip


def _event(
    row: sa.Row[tuple[object, ...]], deanery: str, file: str, body: RecordExported | FileGenerated
) -> Event:
    return Event(
        row.id, f"{row.event}:{row.subject}", row.event, row.correlation, deanery, file, body
    )


def mark_sent(state: Database, ids: Sequence[int]) -> None:
    """Record that the broker has confirmed these events."""
    with state.write() as connection:
        sent = sa.update(t.outbox).where(t.outbox.c.id.in_(ids))
        connection.execute(sent.values(sent_at=time_in(connection)))


def release(state: Database, ids: Sequence[int]) -> None:
    """Release the claim on unconfirmed events, so that any process can send them immediately."""
    with state.write() as connection:
        released = sa.update(t.outbox).where(t.outbox.c.id.in_(ids))
        connection.execute(released.values(claimed_at=None))


def unsent(state: Database) -> tuple[int, datetime | None]:
    """Return the number of unsent events, and since when the oldest has been waiting."""
    statement = sa.select(sa.func.count(), sa.func.min(t.outbox.c.created_at)).where(
        t.outbox.c.sent_at.is_(None)
    )
    with state.read() as connection:
        number, oldest = connection.execute(statement).one()
    return number, oldest


async def publish_events(s: Services, app: "Application") -> None:
    """Publish the events in the outbox until this task is cancelled.

    An event that the broker does not confirm stays unsent and is published again. After
    `REFUSED_ATTEMPTS` failed attempts in a row, a new channel is opened: a quorum queue that was
    full still refuses the channels of that time after its limit was removed by deleting a policy
    (https://github.com/rabbitmq/rabbitmq-server/issues/12206).

    Args:
        s: settings, clock and servers.
        app: the connected application.

    Raises:
        UnreachableError: an exchange has no binding for an event.

    """
    from aio_pika.exceptions import PublishError

    refused = 0
    while True:
        events = await retried(lambda: asyncio.to_thread(claim, s.state))
        if not events:
            await asyncio.sleep(IDLE_SECONDS)
            continue
        results = await asyncio.gather(
            *(_publish(app, event) for event in events), return_exceptions=True
        )
        failures = {
            event.id: result
            for event, result in zip(events, results, strict=True)
            if isinstance(result, BaseException)
        }
        confirmed = [event.id for event in events if event.id not in failures]
        await retried(partial(asyncio.to_thread, mark_sent, s.state, confirmed))
        refused = refused + 1 if failures else 0
        if failures:
            await retried(partial(asyncio.to_thread, release, s.state, list(failures)))
            if any(isinstance(error, PublishError) for error in failures.values()):
                # The consumer restarts, and declares the binding again.
                raise UnreachableError("an event cannot be routed: its queue has lost its binding")
            reason = str(next(iter(failures.values())))[:LONGEST_REASON]
            get().warning("events not confirmed", count=len(failures), reason=reason)
            if refused % REFUSED_ATTEMPTS == 0:
                await app.reopen_publisher()
            await asyncio.sleep(UNCONFIRMED_SECONDS)


async def _publish(app: "Application", event: Event) -> None:
    await app.events[event.name].publish(
        event.body,
        message_id=event.message_id,
        correlation_id=event.correlation_id,
        headers={"deanery": event.deanery, "sourceFile": event.file},
    )
