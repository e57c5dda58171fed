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


def _runs() -> None:
    op.drop_column("run", "rerun_requested")
    op.add_column("run", sa.Column("rerun", sa.Text))
    op.add_column("run", _flag("past_day"))
    op.add_column("run", _number("attempt"))
    op.add_column("run", _number("restarts"))
    op.add_column("run", _flag("needs_cleanup"))
    op.add_column("run", sa.Column("existing", sa.BigInteger))
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
    # Until now a job covered every day since its last success.
    succeeded = sa.text(
        "SELECT job, as_of FROM run WHERE state = 'succeeded' AND NOT dry_run ORDER BY created_at"
    )
    days = {row.job: loads(row.as_of)["last"] for row in op.get_bind().execute(succeeded)}
    op.bulk_insert(
        covered, [{"job": job, "day": date.fromisoformat(day)} for job, day in days.items()]
    )


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")
