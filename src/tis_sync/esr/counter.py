"""The counter's row of a file type: who locks it is alone until the transaction ends.

Claims of a file type come one after another, so that a number is taken only together with its file.
Who adds or changes records locks that of APP: records are written by one transaction at a time, and
two can never wait for each other.
"""

import sqlalchemy as sa

from tis_sync.state import esr as t


def lock(connection: sa.Connection, file_type: str) -> int:
    """Be alone; returns the last number taken. SQLite's write lock has seen to that already."""
    locking = sa.select(t.counter.c.last_number).where(t.counter.c.file_type == file_type)
    return int(connection.execute(locking.with_for_update()).scalar_one())
