"""How often a run began again because its workflow had ended with an error."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a column; no row is lost."""
    op.add_column("run", sa.Column("recoveries", sa.Integer, nullable=False, server_default="0"))
