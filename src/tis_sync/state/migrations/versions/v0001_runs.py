"""The first tables: runs with phases, logs and set-aside records; workers; alarms."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables as they were at this revision (later ones alter them)."""
    op.create_table(
        "run",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job", sa.String(100), nullable=False),
        sa.Column("trigger", sa.String(20), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("parent", sa.String(36), index=True),
        sa.Column("as_of", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("active_job", sa.String(100), unique=True),
        sa.Column("again", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, index=True),
        sa.Column("started_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("phase", sa.String(40)),
        sa.Column("partitions", sa.Integer),
        sa.Column("partitions_done", sa.Integer, nullable=False),
        *(
            sa.Column(name, sa.BigInteger)
            for name in ("considered", "added", "changed", "removed", "set_aside", "size")
        ),
        sa.Column("error", sa.Text),
        sa.Column("detail", sa.Text),
    )
    op.create_table(
        "run_phase",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "run_log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String(36), nullable=False, index=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("level", sa.String(10), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "set_aside",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String(36), nullable=False, index=True),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("record", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("heartbeat_at", sa.DateTime, nullable=False),
        sa.Column("schedules", sa.Boolean, nullable=False),
        sa.Column("buried_at", sa.DateTime),
        sa.Column("buried_by", sa.String(100)),
    )
    op.create_table(
        "alarm",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("open_key", sa.String(300), unique=True),
        sa.Column("raised_at", sa.DateTime, nullable=False),
        sa.Column("closed_at", sa.DateTime),
        sa.Column("run_id", sa.String(36)),
        sa.Column("text", sa.Text, nullable=False),
    )
