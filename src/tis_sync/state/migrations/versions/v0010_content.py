"""The content of files is deleted after a time."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a column; no content is deleted yet."""
    op.add_column("esr_file", sa.Column("emptied_at", sa.DateTime))
