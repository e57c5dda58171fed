"""The tables of the export to ESR."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
FILE_TYPES = ("APP", "DNC", "DNF")


def upgrade() -> None:
    """Create the tables as they were at this revision (later ones alter them)."""
    op.create_table(
        "esr_record",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("placement_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("position_id", sa.BigInteger, nullable=False),
        sa.Column("position_number", sa.BigInteger, nullable=False),
        sa.Column("post_id", sa.BigInteger, nullable=False),
        sa.Column("post_number", sa.Text),
        sa.Column("deanery", sa.String(20)),
        sa.Column("start", sa.Date, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("held", sa.Text),
        sa.Column("file", sa.String(60), index=True),
        sa.Column("cause", sa.String(80), nullable=False, index=True),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("changed_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_esr_record_state_deanery", "esr_record", ["state", "deanery"])
    op.create_table(
        "esr_change",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("record_id", sa.String(80), nullable=False, index=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("cause", sa.String(80), nullable=False),
    )
    op.create_table(
        "esr_generation",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("trigger", sa.String(20), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False, index=True),
        sa.Column("finished_at", sa.DateTime),
        *(
            sa.Column(name, sa.Integer)
            for name in ("eligible", "added", "changed", "removed", "invalid")
        ),
        sa.Column("error", sa.Text),
    )
    counter = op.create_table(
        "esr_counter",
        sa.Column("file_type", sa.String(3), primary_key=True),
        sa.Column("last_number", sa.Integer, nullable=False),
    )
    op.bulk_insert(counter, [{"file_type": name, "last_number": 0} for name in FILE_TYPES])
    op.create_table(
        "esr_file",
        sa.Column("name", sa.String(60), primary_key=True),
        sa.Column("file_type", sa.String(3), nullable=False),
        sa.Column("deanery", sa.String(3), nullable=False),
        sa.Column("day", sa.Date, nullable=False, index=True),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("command_id", sa.String(36), nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("sha256", sa.String(64)),
        sa.Column("written_at", sa.DateTime),
        sa.Column("told_at", sa.DateTime),
        sa.UniqueConstraint("file_type", "number"),
        sa.UniqueConstraint("file_type", "deanery", "day", "turn"),
    )
    op.create_table(
        "esr_line",
        sa.Column("file", sa.String(60), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("source", sa.String(80), nullable=False, index=True),
        sa.Column("claim", sa.String(90), unique=True),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_table(
        "esr_command",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("key", sa.String(100), nullable=False, unique=True),
        sa.Column("file_type", sa.String(3), nullable=False),
        sa.Column("deanery", sa.String(3), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("new", sa.Boolean, nullable=False),
        sa.Column("trigger", sa.String(20), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, index=True),
        sa.Column("started_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("error", sa.Text),
        sa.Column("file", sa.String(60)),
    )
