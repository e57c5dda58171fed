"""The Java service's lock table: while that service is still in use, jobs take its locks too.

A row contains the name of a lock and the time until which it is taken. A lock whose `lock_until` is
in the past is free; a single conditional UPDATE takes it, or an INSERT if there is no row.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.database import Database
from tis_sync.tcs.tables import Shedlock


def take(
    database: Database, name: str, owner: str, now: datetime, longest: timedelta
) -> tuple[str, datetime] | None:
    """Take a lock, or extend it if the owner already has it.

    Args:
        database: TCS.
        name: the name of the lock.
        owner: the new owner; unique to a run.
        now: the current time.
        longest: after this time the lock is free again, even if it was never released.

    Returns:
        None if the lock was taken; otherwise its owner, and the time until which it is taken.

    """
    at = _utc(now)
    values = {"lock_until": at + longest, "locked_at": at, "locked_by": owner}
    try:
        with database.write() as connection:
            result = connection.execute(
                sa.update(Shedlock)
                .where(Shedlock.c.name == name)
                .where(sa.or_(Shedlock.c.lock_until <= at, Shedlock.c.locked_by == owner))
                .values(values)
            )
            if result.rowcount:
                return None
            connection.execute(sa.insert(Shedlock).values(name=name, **values))
    except IntegrityError:
        with database.read() as connection:
            row = connection.execute(
                sa.select(Shedlock.c.locked_by, Shedlock.c.lock_until).where(
                    Shedlock.c.name == name
                )
            ).one()
        return str(row.locked_by), row.lock_until.replace(tzinfo=UTC)
    return None


def release(database: Database, name: str, owner: str, now: datetime) -> None:
    """Release a lock; do nothing if it has another owner."""
    with database.write() as connection:
        connection.execute(
            sa.update(Shedlock)
            .where(Shedlock.c.name == name, Shedlock.c.locked_by == owner)
            .values(lock_until=_utc(now))
        )


def _utc(moment: datetime) -> datetime:
    """Convert a time to the form in the table: UTC, without a zone, in milliseconds."""
    plain = moment.astimezone(UTC).replace(tzinfo=None)
    return plain.replace(microsecond=plain.microsecond // 1000 * 1000)
