"""The clock of the state database, which all processes share: those of two machines may differ."""

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.state.tables import UtcDateTime

# Times that machines have written by their own clocks are compared with this much tolerance. It is
# more than unsynchronised clocks usually differ by, and less than the time between two nights.
CLOCK_TOLERANCE = timedelta(minutes=10)
SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"  # as SQLAlchemy stores times; SQLite has milliseconds


def current_time(
    dialect: str,
    ago: timedelta = timedelta(0),
    process_clock: Callable[[], datetime] | None = None,
) -> sa.ColumnElement[datetime]:
    """Return an expression for the current time in UTC, by the clock of the state database.

    Args:
        dialect: of the state database: "postgresql" or "sqlite".
        ago: how far before the current time.
        process_clock: serves instead on SQLite, for what only one process at a time does. None:
            SQLite's own clock.

    """
    if dialect == "postgresql":
        now = sa.func.clock_timestamp() - sa.literal(ago, sa.Interval())
        return sa.func.timezone("UTC", now, type_=UtcDateTime)
    if process_clock is not None:
        return sa.literal(process_clock() - ago, UtcDateTime)
    shift = f"-{ago.total_seconds():.3f} seconds"
    return sa.func.strftime(SQLITE_FORMAT, "now", shift, type_=UtcDateTime)


def time_in(connection: sa.Connection) -> datetime:
    """Return the current time in UTC, by the clock of the state database."""
    statement = sa.select(current_time(connection.dialect.name))
    now: datetime = connection.execute(statement).scalar_one()
    return now


def time_of(state: Database) -> datetime:
    """Return the current time in UTC; as `time_in`, on a connection of its own."""
    with state.read() as connection:
        return time_in(connection)
