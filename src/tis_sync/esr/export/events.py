"""Events for other systems, written to the outbox in the transaction that marks a file reported."""

from enum import StrEnum

import sqlalchemy as sa

from tis_sync.esr.files.numbering import File
from tis_sync.state import esr_tables as t
from tis_sync.state.clock import time_in


class EventName(StrEnum):
    """The events, by their names at the broker."""

    RECORD_EXPORTED = "esr.apprecord.exported"
    FILE_GENERATED = "esr.file.generated"


def write_events(connection: sa.Connection, file: File) -> None:
    """Write the events of a reported file: one for each record, and one for the file.

    Args:
        connection: the transaction that makes the records EXPORTED.
        file: the file.

    """
    # Another machine may check how long they have been waiting.
    now = time_in(connection)
    created = sa.literal(now, t.outbox.c.created_at.type)
    columns = ["event", "subject", "correlation", "created_at"]
    records = sa.select(
        sa.literal(EventName.RECORD_EXPORTED.value),
        t.record.c.id,
        sa.literal(file.command_id),
        created,
    ).where(t.record.c.file == file.name)
    connection.execute(sa.insert(t.outbox).from_select(columns, records.order_by(t.record.c.id)))
    connection.execute(
        sa.insert(t.outbox).values(
            event=EventName.FILE_GENERATED,
            subject=file.name,
            correlation=file.command_id,
            created_at=now,
        )
    )
