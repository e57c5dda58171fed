"""Named locks of MySQL and MariaDB around transactions, and how those of dead processes are broken.

A process that was declared dead may be suspended in the middle of a transaction, which it would
commit when it comes back. So such a transaction holds a named lock on its own connection, and
whoever continues the work first ends the connections that hold the lock: the server then rolls the
transaction back. MySQL lets a user end its own connections.

SQLite needs none of this: one process at a time uses a file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tis_sync.db.database import Database
from tis_sync.errors import LockedError
from tis_sync.logs import get

PATIENCE_SECONDS = 5  # how long a transaction that is about to commit may take to do so


@contextmanager
def locked_write(database: Database, name: str) -> Iterator[sa.Connection]:
    """Open a write transaction that holds a named lock until it is over.

    Raises:
        LockedError: another transaction has held the lock for `PATIENCE_SECONDS`.
        UnreachableError, StorageFullError, TisSyncError: as in `Database.write`; also if another
            process has ended the connection.

    """
    if database.dialect == "sqlite":
        with database.write() as connection:
            yield connection
        return
    with database.read() as connection:
        _take(database, connection, name)
        connection.rollback()  # ends the transaction that only took the lock
        try:
            with connection.begin():
                yield connection
        finally:
            with suppress(DBAPIError):  # the lock has gone with the connection
                connection.execute(sa.select(sa.func.release_lock(name)))


def end_holders(database: Database, names: Sequence[str]) -> None:
    """End the connections that hold any of these locks, unless they free them in time.

    Raises:
        LockedError: a lock is held again; this can only be by someone who also continues the work.

    """
    if database.dialect == "sqlite":
        return
    with database.read() as connection:
        for name in names:
            try:
                _take(database, connection, name)
            except LockedError:
                holder = connection.scalar(sa.select(sa.func.is_used_lock(name)))
                if holder is not None:
                    get().warning("a suspended transaction is ended", connection=holder)
                    with suppress(DBAPIError):  # it has just ended by itself
                        connection.exec_driver_sql(f"KILL {int(holder)}")
                _take(database, connection, name)
            connection.execute(sa.select(sa.func.release_lock(name)))


def _take(database: Database, connection: sa.Connection, name: str) -> None:
    if connection.scalar(sa.select(sa.func.get_lock(name, PATIENCE_SECONDS))) != 1:
        raise LockedError(
            f"{database.name} at {database.address}: another process has held the lock {name} for "
            f"{PATIENCE_SECONDS} s. This is retried automatically."
        )
