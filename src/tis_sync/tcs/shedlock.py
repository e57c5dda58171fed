"""The Java service's lock table: while that service is still in use, jobs take its locks too.

A row contains the name of a lock and the time until which it is taken. A lock whose `lock_until` is
in the past is free; a single conditional UPDATE takes it, or an INSERT if there is no row.

ShedLock 2.2 writes and compares `lock_until` by the clock of its own machine, and so do we. A clock
that is ahead by some minutes therefore frees a lock those minutes early, and one that is behind
waits those minutes longer. Our locks are safe from that. Workers prolong them every minute, so they
always last for almost `shedlock_minutes` more. A lock of the Java service is safe if its job ends
that much before its `lockAtMostFor`. `tis-sync doctor` compares our clock with that of TCS.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.database import Database
from tis_sync.tcs.tables import Shedlock

RELEASED_AGO = timedelta(hours=1)  # more than clocks differ by


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
    with database.write() as connection:
        result = connection.execute(
            sa.update(Shedlock)
            .where(Shedlock.c.name == name)
            .where(sa.or_(Shedlock.c.lock_until <= at, Shedlock.c.locked_by == owner))
            .values(values)
        )
    if result.rowcount:
        return None
    # A transaction of its own: an UPDATE that finds no row locks the gap where its row would be, so
    # the INSERTs of several jobs would wait for each other's gaps.
    try:
        with database.write() as connection:
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


def prolong(
    database: Database,
    name: str,
    owner: str,
    now: datetime,
    longest: timedelta,
    margin: timedelta,
) -> None:
    """Prolong a lock that the owner holds, if that was last done longer than `margin` ago.

    Args:
        database: TCS.
        name: the name of the lock.
        owner: its owner; nothing happens if it has another one.
        now: the current time.
        longest: see `take`.
        margin: how much of `longest` may have passed before the lock is prolonged.

    """
    at = _utc(now)
    with database.write() as connection:
        connection.execute(
            sa.update(Shedlock)
            .where(Shedlock.c.name == name, Shedlock.c.locked_by == owner)
            .where(Shedlock.c.lock_until > at, Shedlock.c.lock_until < at + longest - margin)
            .values(lock_until=at + longest)
        )


def release(database: Database, name: str, owner: str, now: datetime) -> None:
    """Release a lock; do nothing if it has another owner.

    The lock then ended an hour ago, so that a machine whose clock is behind finds it free too, and
    a `prolong` of another process that began before finds nothing to prolong.
    """
    with database.write() as connection:
        connection.execute(
            sa.update(Shedlock)
            .where(Shedlock.c.name == name, Shedlock.c.locked_by == owner)
            .values(lock_until=_utc(now) - RELEASED_AGO)
        )


def _utc(moment: datetime) -> datetime:
    """Convert a time to the form in the table: UTC, without a zone, in milliseconds."""
    plain = moment.astimezone(UTC).replace(tzinfo=None)
    return plain.replace(microsecond=plain.microsecond // 1000 * 1000)
