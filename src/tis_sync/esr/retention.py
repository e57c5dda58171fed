"""Retention for the export: which rows of its tables are deleted, and after how long.

Records, files and their lines are kept, because they prevent anything from being sent twice.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.state import esr_tables as t


def prune(state: Database, now: datetime, days: int) -> int:
    """Delete old generations, messages, sent events and retried dead letters.

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
        (t.dead_letter, t.dead_letter.c.retried_at < oldest),
    )
    with state.write() as connection:
        return sum(
            int(connection.execute(sa.delete(table).where(condition)).rowcount)
            for table, condition in expired
        )
