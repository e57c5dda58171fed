"""The tables of the export to ESR in the state database: records, files, commands, messages."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Date, Integer, String, Table, Text, UniqueConstraint

from tis_sync.state.tables import UtcDateTime, metadata

record = Table(
    "esr_record",
    metadata,
    Column("id", String(80), primary_key=True),  # placement-position-number
    Column("placement_id", BigInteger, nullable=False, index=True),
    Column("position_id", BigInteger, nullable=False),
    Column("position_number", BigInteger, nullable=False),
    Column("post_id", BigInteger, nullable=False),
    Column("post_number", Text),
    Column("deanery", String(20)),
    Column("start", Date, nullable=False),
    Column("content", Text, nullable=False),  # JSON: the columns of the layout
    Column("state", String(30), nullable=False),
    Column("reason", Text),  # for INVALID_DATA and DELETED_BEFORE_EXPORT
    Column("postponed", Text),  # why the last file left the record for the next one
    Column("origin", String(20), nullable=False, server_default="tcs"),  # or "message"
    Column("file", String(60), index=True),  # the file that claimed it
    Column(
        "cause", String(80), nullable=False, index=True
    ),  # the generation, command or message that last changed its state
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    sa.Index("ix_esr_record_state_deanery", "state", "deanery"),
)

# Every change of a record's state.
change = Table(
    "esr_change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("record_id", String(80), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("state", String(30), nullable=False),
    Column("reason", Text),
    Column("cause", String(80), nullable=False),  # the generation, command or message
)

generation = Table(
    "esr_generation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("trigger", String(20), nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("finished_at", UtcDateTime),
    Column("eligible", Integer),
    Column("added", Integer),
    Column("changed", Integer),
    Column("removed", Integer),
    Column("invalid", Integer),
    Column("error", Text),
)

counter = Table(
    "esr_counter",
    metadata,
    Column("file_type", String(3), primary_key=True),
    Column("last_number", Integer, nullable=False),
)

file = Table(
    "esr_file",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("file_type", String(3), nullable=False),
    Column("deanery", String(3), nullable=False),
    Column("day", Date, nullable=False, index=True),
    # The first file of a deanery's day has revision 0; `--new` adds the next one.
    Column("revision", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("command_id", String(36), nullable=False),
    Column("records", Integer, nullable=False),
    Column("size", BigInteger),
    Column("sha256", String(64)),
    Column("written_at", UtcDateTime),
    Column("reported_at", UtcDateTime),  # when TCS had the events, and the records became EXPORTED
    Column("emptied_at", UtcDateTime),  # when content of its lines was deleted
    UniqueConstraint("file_type", "number"),
    UniqueConstraint("file_type", "deanery", "day", "revision"),
)

line = Table(
    "esr_line",
    metadata,
    Column("file", String(60), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column(
        "subject", String(80), nullable=False, index=True
    ),  # the id of a record or of a notification
    # "TYPE/subject" if the line may only ever be sent once; null if it may be sent again.
    Column("claim", String(90), unique=True),
    Column("content", Text, nullable=False),
)

command = Table(
    "esr_command",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("key", String(100), nullable=False, unique=True),  # idempotency key
    Column("file_type", String(3), nullable=False),
    Column("deanery", String(3), nullable=False),
    Column("day", Date, nullable=False),
    Column("new", sa.Boolean, nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("state", String(20), nullable=False, index=True),  # queued, running, done, dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    Column("file", String(60)),
)

# Messages that were handled: a redelivery with the same id changes nothing.
message = Table(
    "esr_message",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("queue", String(100), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)

# Events for other systems, written in the same transaction as what they report, and sent until the
# broker confirms them.
outbox = Table(
    "esr_outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(40), nullable=False),
    Column("subject", String(80), nullable=False),  # id of the record, or name of the file
    Column("correlation", String(36), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("claimed_at", UtcDateTime),  # when a process began to send it
    Column("sent_at", UtcDateTime, index=True),
    UniqueConstraint("event", "subject"),
)

# Dead letters, consumed from the broker; they wait here until they are sent back.
dead_letter = Table(
    "esr_dead_letter",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("queue", String(100), nullable=False),  # where it died, and is sent back to
    Column("message_id", String(200)),
    Column("reason", Text, nullable=False),
    Column("died_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("retried_at", UtcDateTime, index=True),
    Column("properties", Text, nullable=False),  # JSON
    Column("body", sa.LargeBinary, nullable=False),
)

# When other systems were last known to be alive.
last_contact = Table(
    "esr_last_contact",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
