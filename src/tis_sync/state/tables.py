"""The tables of runs, workers and alarms in the state database. Alembic creates them."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Column, Integer, String, Table, Text
from sqlalchemy.types import TypeDecorator

metadata = sa.MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, stored without its zone, because SQLite has no time zones."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Convert to UTC, and drop the zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Add the zone."""
        return None if value is None else value.replace(tzinfo=UTC)


run = Table(
    "run",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job", String(100), nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("parent", String(36), index=True),
    Column("as_of", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("dry_run", sa.Boolean, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    # The name of the job while the run is active, otherwise null: a job has at most one active run.
    Column("active_job", String(100), unique=True),
    # Another run was requested while this one was active: JSON of the `Rerun` to queue at its end.
    Column("rerun", Text),
    # Covers only a day in the past (`--date`): such a run does not stand for a scheduled one.
    Column("past_day", sa.Boolean, nullable=False, server_default=sa.false()),
    Column("attempt", Integer, nullable=False, server_default="0"),  # failed builds before this one
    Column("restarts", Integer, nullable=False, server_default="0"),  # how often it was resumed
    # How often it began again because its workflow had ended with an error.
    Column("recoveries", Integer, nullable=False, server_default="0"),
    # Whether the run may hold a lock or a half-built index that its end must clear away.
    Column("needs_cleanup", sa.Boolean, nullable=False, server_default=sa.false()),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("started_at", UtcDateTime),
    # Since when it has worked without waiting, by the clock of `tis_sync.state.liveness`.
    Column("working_since", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("phase", String(40)),
    Column("partitions", Integer),
    Column("partitions_done", Integer, nullable=False, default=0),
    Column("considered", sa.BigInteger),
    Column("existing", sa.BigInteger),  # records that existed when the plan was judged
    Column("added", sa.BigInteger),
    Column("changed", sa.BigInteger),
    Column("removed", sa.BigInteger),
    Column("set_aside", sa.BigInteger),
    Column("size", sa.BigInteger),
    Column("error", Text),
    Column("detail", Text),
)

# What each partition of a run loses according to the plan that was judged last.
loss = Table(
    "loss",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("partition", String(20), primary_key=True),  # its lowest key, or empty
    Column("records", sa.BigInteger, nullable=False),  # those that no approval covers
    Column("key_hashes", sa.LargeBinary, nullable=False),  # hashes of the keys of all of them
)

# The last day up to which a dated job has covered every day.
covered_day = Table(
    "covered_day",
    metadata,
    Column("job", String(100), primary_key=True),
    Column("day", sa.Date, nullable=False),
)

run_phase = Table(
    "run_phase",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", String(40), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
)

run_log = Table(
    "run_log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", String(36), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("level", String(10), nullable=False),
    Column("text", Text, nullable=False),
)

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", String(36), nullable=False, index=True),
    Column("table_name", String(100), nullable=False),
    Column("record_key", String(200), nullable=False),
    Column("reason", Text, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("schedules", sa.Boolean, nullable=False),
    # Changes when the worker registers again: work begun before that must stop.
    Column("registration", String(36), nullable=False, server_default=""),
    # When, and by which worker, the unfinished work of a dead worker was claimed.
    Column("claimed_at", UtcDateTime),
    Column("claimed_by", String(100)),
)

alarm = Table(
    "alarm",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    # "kind/subject" while the alarm is open, otherwise null, so that it is opened only once.
    Column("open_key", String(300), unique=True),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("run_id", String(36)),
    Column("severity", String(10), nullable=False, server_default="failure"),
    Column("text", Text, nullable=False),
    # Why it was closed: resolved, expired or superseded, and a sentence that says so.
    Column("resolution", String(20)),
    Column("closing", Text),
)

# The outbox of notifications. A row is written in the transaction that opens, escalates or closes
# its alarm; a process that has notification channels then creates a delivery for each of them.
notification = Table(
    "notification",
    metadata,
    Column("id", Integer, primary_key=True),
    # "kind/subject" of the alarm; the notifications of a topic are sent in order. Null: no alarm.
    Column("topic", String(300)),
    Column("severity", String(10), nullable=False),  # info, success, warning or failure
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("dispatched_at", UtcDateTime, index=True),  # when its deliveries were created
)

notification_delivery = Table(
    "notification_delivery",
    metadata,
    Column("notification_id", Integer, primary_key=True, autoincrement=False),
    Column("channel", String(16), primary_key=True),  # a hash of the channel's URL
    Column("topic", String(300)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", UtcDateTime, nullable=False),  # when to try it next
    Column("claimed_until", UtcDateTime),  # another process is sending it until then
    # When it was sent or given up; null while it waits.
    Column("finished_at", UtcDateTime, index=True),
    Column("sent", sa.Boolean, nullable=False, default=False),
)

# Which worker carries out each monitor; a lease that is not renewed expires.
monitor_lease = Table(
    "monitor_lease",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("owner", String(100)),
    Column("expires_at", UtcDateTime),
)
