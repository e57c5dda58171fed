"""What a second attempt must know: losses that were judged, days that were covered, alarms sent."""

from datetime import date
from json import loads

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add tables and columns; no row is lost."""
    _runs()
    _alarms()


def _runs() -> None:
    op.drop_column("run", "rerun_requested")
    op.add_column("run", sa.Column("rerun", sa.Text))
    op.add_column("run", _flag("past_day"))
    op.add_column("run", _number("attempt"))
    op.add_column("run", _number("restarts"))
    op.add_column("run", _flag("needs_cleanup"))
    op.add_column("run", sa.Column("existing", sa.BigInteger))
    op.add_column("run", sa.Column("working_since", sa.DateTime))
    op.add_column(
        "worker", sa.Column("registration", sa.String(36), nullable=False, server_default="")
    )
    op.create_table(
        "loss",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("partition", sa.String(20), primary_key=True),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("key_hashes", sa.LargeBinary, nullable=False),
    )
    covered = op.create_table(
        "covered_day",
        sa.Column("job", sa.String(100), primary_key=True),
        sa.Column("day", sa.Date, nullable=False),
    )
    # A dry run does not occupy its job any more.
    op.execute(sa.text("UPDATE run SET active_job = NULL WHERE dry_run"))
    # Until now a job covered every day since its last success. The newest day counts, because the
    # last success may have been a run for a day in the past.
    succeeded = sa.text("SELECT job, as_of FROM run WHERE state = 'succeeded' AND NOT dry_run")
    days: dict[str, date] = {}
    for row in op.get_bind().execute(succeeded):
        day = date.fromisoformat(loads(row.as_of)["last"])
        days[row.job] = max(day, days.get(row.job, day))
    op.bulk_insert(covered, [{"job": job, "day": day} for job, day in days.items()])


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _alarms() -> None:
    """Severity and resolution of alarms, the outbox of notifications, and leases of monitors."""
    with op.batch_alter_table("alarm") as alarm:
        alarm.add_column(
            sa.Column("severity", sa.String(10), nullable=False, server_default="failure")
        )
        alarm.add_column(sa.Column("resolution", sa.String(20)))
        alarm.add_column(sa.Column("closing", sa.Text))
    op.create_table(
        "notification",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("topic", sa.String(300)),
        sa.Column("severity", sa.String(10), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("dispatched_at", sa.DateTime, index=True),
    )
    op.create_table(
        "notification_delivery",
        sa.Column("notification_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("channel", sa.String(16), primary_key=True),
        sa.Column("topic", sa.String(300)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("claimed_until", sa.DateTime),
        sa.Column("finished_at", sa.DateTime, index=True),
        sa.Column("sent", sa.Boolean, nullable=False),
    )
    op.create_table(
        "monitor_lease",
        sa.Column("name", sa.String(60), primary_key=True),
        sa.Column("owner", sa.String(100)),
        sa.Column("expires_at", sa.DateTime),
    )
