"""The Java service's lock table: while that service still runs, a job takes its row too.

A row names a lock and until when it is taken. Whoever finds `lock_until` in the past may take it,
by one conditional UPDATE (or an INSERT where the row is missing).
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.tcs.connect import explained
from tis_sync.tcs.tables import Shedlock
from tis_sync.tcs.write import writing


def take(
    engine: sa.Engine, name: str, who: str, now: datetime, longest: timedelta
) -> tuple[str, datetime] | None:
    """Take a lock, or prolong it where `who` holds it.

    Args:
        engine: TCS.
        name: the lock's name.
        who: who takes it: unique to a run.
        now: the present moment.
        longest: after this it is free again, even if never released.

    Returns:
        None when it is ours; else who holds it, and until when.

    """
    at = _utc(now)
    ours = {"lock_until": at + longest, "locked_at": at, "locked_by": who}
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"):
        try:
            with writing(engine) as connection:
                result = connection.execute(
                    sa.update(Shedlock)
                    .where(Shedlock.c.name == name)
                    .where(sa.or_(Shedlock.c.lock_until <= at, Shedlock.c.locked_by == who))
                    .values(ours)
                )
                if result.rowcount:
                    return None
                connection.execute(sa.insert(Shedlock).values(name=name, **ours))
        except IntegrityError:
            with engine.connect() as connection:
                row = connection.execute(
                    sa.select(Shedlock.c.locked_by, Shedlock.c.lock_until).where(
                        Shedlock.c.name == name
                    )
                ).one()
            return str(row.locked_by), row.lock_until.replace(tzinfo=UTC)
    return None


def release(engine: sa.Engine, name: str, who: str, now: datetime) -> None:
    """Free a lock that `who` holds; nothing happens where it does not."""
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"), writing(engine) as connection:
        connection.execute(
            sa.update(Shedlock)
            .where(Shedlock.c.name == name, Shedlock.c.locked_by == who)
            .values(lock_until=_utc(now))
        )


def _utc(moment: datetime) -> datetime:
    """As the table holds it: UTC, without zone, in milliseconds."""
    plain = moment.astimezone(UTC).replace(tzinfo=None)
    return plain.replace(microsecond=plain.microsecond // 1000 * 1000)
