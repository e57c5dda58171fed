"""Events for others: written with what they tell of, sent until the broker has confirmed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.esr.broker.messages import FileGenerated, RecordExported
from tis_sync.esr.broker.topology import FILE_GENERATED, RECORD_EXPORTED
from tis_sync.esr.files import File
from tis_sync.state import esr as t

BATCH = 200
LEASE_SECONDS = 60.0  # a process that has been sending an event for longer has died over it


@dataclass(frozen=True)
class Event:
    """An event to be sent.

    Attributes:
        id: its place in the outbox.
        message_id: the same however often it is sent.
        name: `esr.apprecord.exported` or `esr.file.generated`.
        correlation: id of the command that made the file.
        deanery: whose file.
        file: the name of the file.
        body: what it says.

    """

    id: int
    message_id: str
    name: str
    correlation: str
    deanery: str
    file: str
    body: RecordExported | FileGenerated


def write(connection: sa.Connection, file: File, now: datetime) -> None:
    """Write the events of a file that is settled, in the transaction that settles it."""
    created = sa.literal(now, t.outbox.c.created_at.type)
    columns = ["event", "subject", "correlation", "created_at"]
    exported = sa.select(
        sa.literal(RECORD_EXPORTED), t.record.c.id, sa.literal(file.command_id), created
    ).where(t.record.c.file == file.name)
    connection.execute(sa.insert(t.outbox).from_select(columns, exported.order_by(t.record.c.id)))
    values = dict(zip(columns, (FILE_GENERATED, file.name, file.command_id, now), strict=True))
    connection.execute(sa.insert(t.outbox).values(values))


def claim(state: sa.Engine, now: datetime, limit: int = BATCH) -> list[Event]:
    """Take the oldest unsent events for this process; others leave them alone meanwhile."""
    free = sa.and_(
        t.outbox.c.sent_at.is_(None),
        sa.or_(
            t.outbox.c.claimed_at.is_(None),
            t.outbox.c.claimed_at < now - timedelta(seconds=LEASE_SECONDS),
        ),
    )
    oldest = sa.select(t.outbox.c.id).where(free).order_by(t.outbox.c.id).limit(limit)
    with state.connect() as connection:
        ids = list(connection.scalars(oldest))
    if not ids:
        return []
    mine = sa.update(t.outbox).where(t.outbox.c.id.in_(ids), free).values(claimed_at=now)
    with state.execution_options(writes=True).begin() as connection:
        got = list(connection.scalars(mine.returning(t.outbox.c.id)))
        return [*_of_records(connection, got), *_of_files(connection, got)]


def _of_records(connection: sa.Connection, ids: Sequence[int]) -> list[Event]:
    statement = (
        sa.select(t.outbox, t.record, t.file.c.told_at)
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
                exported_at=row.told_at,
            ),
        )
        for row in connection.execute(statement)
    ]  # fmt: skip


def _of_files(connection: sa.Connection, ids: Sequence[int]) -> list[Event]:
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


def sent(state: sa.Engine, ids: Sequence[int], now: datetime) -> None:
    """The broker has confirmed these events."""
    _mark(state, ids, sent_at=now)


def unsent(state: sa.Engine, ids: Sequence[int]) -> None:
    """These events were not confirmed: any process may try again at once."""
    _mark(state, ids, claimed_at=None)


def _mark(state: sa.Engine, ids: Sequence[int], **values: datetime | None) -> None:
    with state.execution_options(writes=True).begin() as connection:
        connection.execute(sa.update(t.outbox).where(t.outbox.c.id.in_(ids)).values(**values))


def oldest_unsent(state: sa.Engine) -> tuple[int, datetime | None]:
    """How many events are unsent, and since when the oldest of them waits."""
    statement = sa.select(sa.func.count(), sa.func.min(t.outbox.c.created_at)).where(
        t.outbox.c.sent_at.is_(None)
    )
    with state.connect() as connection:
        number, oldest = connection.execute(statement).one()
    return number, oldest
