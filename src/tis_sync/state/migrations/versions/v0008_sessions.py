"""Sessions: when they began, and when the provider has to confirm user and roles."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add columns; they are null for sessions that exist, so these are confirmed next."""
    for name in ("created_at", "checked_at", "check_at"):
        op.add_column("web_session", sa.Column(name, sa.DateTime))
