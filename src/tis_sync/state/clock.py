"""The clock of the state database, which all processes share."""

from datetime import datetime

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.state.tables import UtcDateTime

NOW = {
    "postgresql": "clock_timestamp() AT TIME ZONE 'UTC'",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
}


def time_in(connection: sa.Connection) -> datetime:
    """Return the current time in UTC, by the clock of the state database.

    Leases and claims use it, because the clocks of two machines may differ.
    """
    text = sa.literal_column(NOW[connection.dialect.name], UtcDateTime)
    now: datetime = connection.execute(sa.select(text)).scalar_one()
    return now


def time_of(state: Database) -> datetime:
    """Return the current time in UTC; as `time_in`, on a connection of its own."""
    with state.read() as connection:
        return time_in(connection)
