"""The tables of messages, and the origin of a record."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables as they were at this revision (later ones alter them)."""
    source = sa.Column("source", sa.String(20), nullable=False, server_default="tcs")
    op.add_column("esr_record", source)
    op.create_table(
        "esr_message",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("taken_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "esr_outbox",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("correlation", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("claimed_at", sa.DateTime),
        sa.Column("sent_at", sa.DateTime, index=True),
        sa.UniqueConstraint("event", "subject"),
    )
    op.create_table(
        "esr_letter",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("message_id", sa.String(200)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("died_at", sa.DateTime, nullable=False),
        sa.Column("taken_at", sa.DateTime, nullable=False),
        sa.Column("retried_at", sa.DateTime, index=True),
        sa.Column("properties", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "esr_heard",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
    )
