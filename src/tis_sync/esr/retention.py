"""Retention for the export: which rows of its tables are deleted, and after how long.

Records, files and their lines are kept, because they prevent anything from being sent twice; only
their content is deleted, by `tis_sync.esr.content`.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.logs import get
from tis_sync.state import esr_tables as t


def prune(state: Database, now: datetime, days: int) -> int:
    """Delete old generations, messages and sent events.

    The first generation is kept: it shows when this installation began to export.

    Args:
        state: the state database.
        now: the current time.
        days: rows older than this are deleted.

    Returns:
        The number of rows deleted.

    """
    oldest = now - timedelta(days=days)
    first = sa.select(sa.func.min(t.generation.c.started_at)).scalar_subquery()
    started = t.generation.c.started_at
    expired = (
        (t.generation, sa.and_(started < oldest, started > first)),
        (t.message, t.message.c.received_at < oldest),
        (t.outbox, t.outbox.c.sent_at < oldest),
    )
    with state.write() as connection:
        return sum(
            int(connection.execute(sa.delete(table).where(condition)).rowcount)
            for table, condition in expired
        )


def delete_dead_letters(state: Database, now: datetime, days: int) -> int:
    """Delete old dead letters with their content, whether they were sent back or not.

    Args:
        state: the state database.
        now: the current time.
        days: those that died longer ago, and have been here that long, are deleted.

    Returns:
        The number of dead letters deleted.

    """
    letter, oldest = t.dead_letter, now - timedelta(days=days)
    old = sa.and_(letter.c.died_at < oldest, letter.c.received_at < oldest)
    with state.write() as connection:
        waiting = sa.select(letter.c.id).where(old, letter.c.retried_at.is_(None))
        ids = list(connection.scalars(waiting))
        deleted = int(connection.execute(sa.delete(letter).where(old)).rowcount)
    if ids:  # nobody has looked after these
        get().warning("dead letters deleted that were never retried", ids=[i[:8] for i in ids])
    return deleted
