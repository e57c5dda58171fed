"""Our own tables for the export to ESR: records, files, counters, commands, messages."""

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
    Column("content", Text, nullable=False),  # JSON: the sources of the layout
    Column("state", String(30), nullable=False),
    Column("reason", Text),  # of INVALID_DATA and DELETED_BEFORE_EXPORT
    Column("held", Text),  # why the last file left it for the next one
    Column("source", String(20), nullable=False, server_default="tcs"),  # or "message"
    Column("file", String(60), index=True),  # the file that it was claimed for
    Column("cause", String(80), nullable=False, index=True),  # what changed its state last
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    sa.Index("ix_esr_record_state_deanery", "state", "deanery"),
)

# Every change of state of a record.
change = Table(
    "esr_change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("record_id", String(80), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("state", String(30), nullable=False),
    Column("reason", Text),
    Column("cause", String(80), nullable=False),  # the generation or the command that did it
)

generation = Table(
    "esr_generation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("trigger", String(20), nullable=False),
    Column("who", String(200), nullable=False),
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
    # The first file of a deanery's day has turn 0; `--new` takes the next.
    Column("turn", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("command_id", String(36), nullable=False),
    Column("records", Integer, nullable=False),
    Column("size", BigInteger),
    Column("sha256", String(64)),
    Column("written_at", UtcDateTime),
    Column("told_at", UtcDateTime),  # when TCS had been told, and the records were EXPORTED
    UniqueConstraint("file_type", "number"),
    UniqueConstraint("file_type", "deanery", "day", "turn"),
)

line = Table(
    "esr_line",
    metadata,
    Column("file", String(60), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("source", String(80), nullable=False, index=True),  # id of a record or notification
    # "TYPE/source" where it may be sent only once, ever; null where it may be sent again.
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
    Column("who", String(200), nullable=False),
    Column("state", String(20), nullable=False, index=True),  # queued, running, done, dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    Column("file", String(60)),
)

# Messages that were taken: a message of an id that is here changes nothing any more.
message = Table(
    "esr_message",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("queue", String(100), nullable=False),
    Column("taken_at", UtcDateTime, nullable=False),
)

# Events for others, written with what they tell of; sent when the broker has confirmed them.
outbox = Table(
    "esr_outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(40), nullable=False),
    Column("subject", String(80), nullable=False),  # id of the record, or name of the file
    Column("correlation", String(36), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("claimed_at", UtcDateTime),  # since when a process has been sending it
    Column("sent_at", UtcDateTime, index=True),
    UniqueConstraint("event", "subject"),
)

# Dead letters, taken from the broker; open until they are sent again.
letter = Table(
    "esr_letter",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("queue", String(100), nullable=False),  # where it died, and where it goes again
    Column("message_id", String(200)),
    Column("reason", Text, nullable=False),
    Column("died_at", UtcDateTime, nullable=False),
    Column("taken_at", UtcDateTime, nullable=False),
    Column("retried_at", UtcDateTime, index=True),
    Column("properties", Text, nullable=False),  # JSON
    Column("body", sa.LargeBinary, nullable=False),
)

# When other parties gave their last sign of life.
heard = Table(
    "esr_heard",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
