"""A database that we use: its engine, its name in messages, and its transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from tis_sync.db.driver_errors import translate_errors
from tis_sync.db.mysql import CONNECT_TIMEOUT_SECONDS, TIMEOUT_SECONDS, MySQLServer, split_url
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.urls import redacted_url

SQLITE_BUSY_SECONDS = 30  # how long a writer waits for another writer
NAMED_LOCK_SECONDS = 30
UTC_SESSION = "SET time_zone = '+00:00'"  # MySQL converts TIMESTAMP columns to the session's zone
# PostgreSQL: a session in UTC; no statement of ours takes this long; a process that was stopped in
# a transaction must not keep its locks for ever.
POSTGRESQL_SESSION = (
    "SET TIME ZONE 'UTC'",
    "SET statement_timeout = '300s'",
    "SET idle_in_transaction_session_timeout = '15s'",
)
DEAD_PEER_MILLISECONDS = 60_000  # how long PostgreSQL's host may leave our packets unconfirmed


def redacted(url: URL | str) -> str:
    """Return a URL that is safe to show: asterisks replace the password, and unknown parameters."""
    return redacted_url(make_url(url).render_as_string(hide_password=True))


@dataclass(frozen=True)
class Database:
    """A database and its name in messages.

    Attributes:
        engine: the SQLAlchemy engine.
        name: what people call the database, as the subject of a sentence ("TCS").
        setting: the environment variable that contains its URL, for error messages.
        server: how it is reached, if it is MySQL or MariaDB.

    """

    engine: sa.Engine
    name: str
    setting: str
    server: MySQLServer | None = None

    @property
    def dialect(self) -> str:
        """sqlite, mysql, mariadb or postgresql."""
        return self.engine.dialect.name

    @property
    def address(self) -> str:
        """The URL without its password."""
        return redacted(self.engine.url)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection for reading.

        Raises:
            UnreachableError, LockedError, StorageFullError, TisSyncError: instead of a driver error
                that someone can act on (see `translate_errors`).

        """
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a write transaction: committed at the end, rolled back on an exception.

        SQLite takes its write lock at the start, so a transaction that reads before it writes
        cannot fail when it comes to write.

        Raises:
            UnreachableError, LockedError, StorageFullError, TisSyncError: as in `read`.

        """
        engine = self.engine.execution_options(writes=True)
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a named server lock. SQLite needs none: its writers exclude each other.

        Raises:
            UnreachableError: another process has held the lock for `NAMED_LOCK_SECONDS`.

        """
        if self.dialect == "sqlite":
            yield
            return
        with self.read() as connection:
            if connection.scalar(sa.select(sa.func.get_lock(name, NAMED_LOCK_SECONDS))) != 1:
                raise UnreachableError(
                    f"{self.name} at {self.address}: another process has held the lock {name} for "
                    f"{NAMED_LOCK_SECONDS} s. This is retried automatically."
                )
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.release_lock(name)))

    def upsert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """Return an INSERT that accepts ON CONFLICT clauses (SQLite and PostgreSQL only)."""
        if self.dialect == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)

    @contextmanager
    def with_local_files(self) -> Iterator["Database"]:
        """Open the database again, such that the server may ask for files of this machine.

        Use this only to load files into a trusted server. Databases other than MySQL and MariaDB
        are returned as they are.
        """
        if self.server is None:
            yield self
            return
        engine = _mysql_engine(self.engine.url, self.server, local_infile=True)
        try:
            yield replace(self, engine=engine)
        finally:
            engine.dispose()

    def discard_deleted(self) -> None:
        """Remove from the disk what was deleted, as far as the database lets its users do that.

        SQLite keeps deleted rows of earlier versions in free pages, and the latest changes in a
        file of their own. PostgreSQL's autovacuum overwrites deleted rows in its own time.

        Raises:
            LockedError: another process has been using the database for `SQLITE_BUSY_SECONDS`.

        """
        if self.dialect != "sqlite":
            return
        engine = self.engine.execution_options(transaction=False)
        with self._translated(), engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    def _translated(self) -> AbstractContextManager[None]:
        return translate_errors(f"{self.name} at {self.address}", self.setting)


def connect(
    url: str, *, name: str, setting: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> Database:
    """Open a database, and check that it answers.

    Args:
        url: an SQLAlchemy URL for SQLite, MySQL, MariaDB or PostgreSQL. That of MySQL and MariaDB
            may contain options for TLS (see `tis_sync.db.mysql.split_url`).
        name: see `Database`.
        setting: see `Database`.
        timeout_seconds: how long a MySQL or MariaDB server may be silent while we wait for it.

    Raises:
        UsageError: the URL is malformed or unsupported.
        UnreachableError: there is no answer, the password is wrong, or the database is unknown.

    """
    server: MySQLServer | None = None
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() in {"mysql", "mariadb"}:
            parsed, server = split_url(parsed, timeout_seconds, setting)
            engine = _mysql_engine(parsed, server)
        elif parsed.get_backend_name() == "sqlite":
            engine = _sqlite_engine(parsed)
        else:
            engine = _postgresql_engine(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError):
        raise UsageError(
            f"{setting} is not a supported database URL. Examples: "
            "mysql+pymysql://USER:PASSWORD@HOST:3306/tcs, sqlite:///FILE."
        ) from None
    except OSError as error:
        raise UnreachableError(
            f"{name}: {error.filename} cannot be used: {error.strerror}; check {setting}."
        ) from None
    database = Database(engine, name, setting, server)
    with database.read():
        pass
    return database


# Engines hide the parameters of statements: values of records must not reach messages and logs.


def _mysql_engine(url: URL, server: MySQLServer, *, local_infile: bool = False) -> sa.Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": server.timeout_seconds,
        "write_timeout": server.timeout_seconds,
        "init_command": UTC_SESSION,
        "local_infile": local_infile,
    }
    if server.tls_required:
        arguments["ssl"] = server.tls
    elif server.tls is None:
        arguments["ssl_disabled"] = True  # otherwise the driver uses TLS if the server offers it
    return sa.create_engine(
        url.update_query_dict({"charset": "utf8mb4"}),
        connect_args=arguments,
        pool_pre_ping=True,
        hide_parameters=True,
        paramstyle="format",  # rows go to the driver as tuples, not as mappings
    )


def _sqlite_engine(url: URL) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_SECONDS},
        pool_pre_ping=True,
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_engine(url: URL) -> sa.Engine:
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    if url.get_backend_name() == "postgresql":
        arguments["tcp_user_timeout"] = DEAD_PEER_MILLISECONDS
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for statement in POSTGRESQL_SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


def _configure_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Let readers work alongside a writer (WAL), and control transactions, also for DDL."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is gone from the file too


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("transaction", True):
        return
    writes = options.get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
