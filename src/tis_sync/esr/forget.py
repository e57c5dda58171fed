"""Forget what nobody asks for any more: generations, and messages in and out.

Records, files and their lines stay: they are what keeps anything from being sent twice.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.state import esr as t


def forget(state: sa.Engine, now: datetime, days: int) -> int:
    """Delete what is older than so many days, and done with; returns how many rows.

    The first generation stays: it tells since when this installation exports.
    """
    before = now - timedelta(days=days)
    first = sa.select(sa.func.min(t.generation.c.started_at)).scalar_subquery()
    began = t.generation.c.started_at
    over = (
        (t.generation, sa.and_(began < before, began > first)),
        (t.message, t.message.c.taken_at < before),
        (t.outbox, t.outbox.c.sent_at < before),
        (t.letter, t.letter.c.retried_at < before),
    )
    with state.execution_options(writes=True).begin() as connection:
        return sum(
            int(connection.execute(sa.delete(table).where(condition)).rowcount)
            for table, condition in over
        )
