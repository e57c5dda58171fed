"""The audit log can only be added to, and carries hashes."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

REASON = "entries of the audit log cannot be changed"


def upgrade() -> None:
    """Add columns for hashes and outcomes, and refuse changes; existing entries have no hash."""
    op.add_column("audit", sa.Column("completes", sa.Integer))
    op.add_column("audit", sa.Column("hash", sa.String(64)))
    op.create_index("ix_audit_completes", "audit", ["completes"])
    op.create_table(
        "audit_start",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            sa.text(
                "CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{REASON}'); END"
            )
        )
        return
    op.execute(
        sa.text(
            "CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{REASON}'; END $$"
        )
    )
    op.execute(
        sa.text(
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_only_grows()"
        )
    )
