"""Connections to SQL databases: engines, and what their failures mean to a person."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from tis_sync.errors import (
    LockedError,
    StorageFullError,
    TisSyncError,
    UnreachableError,
    UsageError,
)

CONNECT_SECONDS = 10
SQLITE_BUSY_SECONDS = 30  # a writer waits this long for another one's transaction

# Error numbers of MySQL and MariaDB.
ACCESS_DENIED = {1044, 1045, 1698}
RIGHTS_MISSING = {1142, 1143, 1227}
UNKNOWN_DATABASE = {1049}
# Lock wait timeout, deadlock; of PostgreSQL: serialization failure, deadlock.
COLLIDED = {1205, 1213, "40001", "40P01"}
DISK_FULL = {1021, 1114, 3, 28}


def shown(url: URL | str) -> str:
    """The URL as it may be shown: the password replaced by stars."""
    return make_url(url).render_as_string(hide_password=True)


def connect(url: str, *, name: str, setting: str) -> sa.Engine:
    """An engine for the database at `url`, which is known to answer.

    Args:
        url: an SQLAlchemy URL; SQLite, MySQL, MariaDB or PostgreSQL.
        name: what the database is to a person ("TCS").
        setting: the variable that holds the URL, for error messages.

    Raises:
        UsageError: the URL is malformed, or of a kind that we don't know.
        UnreachableError: no answer, a wrong password, an unknown database.

    """
    try:
        parsed = make_url(url)
        arguments: dict[str, object] = {"connect_timeout": CONNECT_SECONDS}
        options: dict[str, str] = {}
        if parsed.get_backend_name() == "sqlite":
            arguments = {"timeout": SQLITE_BUSY_SECONDS}
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        elif parsed.get_backend_name() in {"mysql", "mariadb"}:
            parsed = parsed.update_query_dict({"charset": "utf8mb4"})
            arguments["local_infile"] = True
            options["paramstyle"] = "format"  # rows go to the driver as tuples, not as mappings
        engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True, **options)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        raise UsageError(
            f"{setting} is not a database URL that tis-sync knows; expected for example "
            "mysql+pymysql://USER:PASSWORD@HOST:3306/tcs or sqlite:///FILE."
        ) from None
    except OSError as error:
        raise UnreachableError(f"{name}: {error.strerror}: {error.filename}.") from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_pragmas)
        sa.event.listen(engine, "begin", _sqlite_begin)
    with explained(engine, name=name, setting=setting), engine.connect():
        pass
    return engine


@contextmanager
def explained(engine: sa.Engine, *, name: str, setting: str) -> Iterator[None]:
    """Turn the failures of a driver inside the block into errors for people.

    Raises:
        UnreachableError, StorageFullError, TisSyncError: instead of `sqlalchemy.exc.DBAPIError`,
            where its reason is one that a person can mend; other errors pass unchanged.

    """
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig)
        number = error.orig.args[0] if error.orig and error.orig.args else None
        where = f"{name} at {shown(engine.url)}"
        if number in ACCESS_DENIED or "password authentication failed" in reason:
            raise UnreachableError(
                f"{where} refuses the user or password; check {setting}."
            ) from error
        if number in UNKNOWN_DATABASE or ('database "' in reason and "does not exist" in reason):
            raise UnreachableError(f"{where}: no such database; check {setting}.") from error
        if number in RIGHTS_MISSING:
            raise TisSyncError(f"{where}: the user lacks a right: {reason}.") from error
        if number in DISK_FULL or "disk is full" in reason or "No space left" in reason:
            raise StorageFullError(f"{where}: the disk is full; make room there.") from error
        if "not a database" in reason:
            raise UnreachableError(f"{where} is not an SQLite database file.") from error
        if error.connection_invalidated or _is_connection_failure(error):
            raise UnreachableError(
                f"{where} does not answer ({_short(reason)}); check that it runs, and {setting}."
            ) from error
        raise


def passing(error: DBAPIError) -> TisSyncError | None:
    """What a failure that passes by itself means to a person; None for others.

    For those that come from amid the work, where it is not known any more which database it was.
    """
    reason = _short(str(error.orig))
    number = error.orig.args[0] if error.orig and error.orig.args else None
    if error.connection_invalidated or _is_connection_failure(error):
        return UnreachableError(f"A database does not answer ({reason}); check that it runs.")
    if number in COLLIDED or getattr(error.orig, "sqlstate", None) in COLLIDED:
        return LockedError(f"Others wrote the same rows at the same time ({reason}).")
    return None


def _is_connection_failure(error: DBAPIError) -> bool:
    reason = str(error.orig)
    return any(
        part in reason
        for part in (
            "Can't connect",
            "connection failed",
            "Connection refused",
            "unable to open database file",
            "Lost connection",
            "server closed the connection",
            "terminating connection",
            "the database system is",
            "disk I/O error",
        )
    )


def _short(reason: str) -> str:
    return " ".join(reason.split())[:160]


def _sqlite_pragmas(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Readers beside a writer (WAL); transactions begun by us, also before DDL and SELECT."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _sqlite_begin(connection: sa.Connection) -> None:
    """Take SQLite's write lock at the start where the caller will write: no late "locked"."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
