"""What a second attempt must know: losses that were judged, days that were covered, alarms sent."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add tables and columns; no row is changed."""
