"""A database that we use: its engine, its name in messages, and its transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from tis_sync.db.driver_errors import translate_errors
from tis_sync.errors import UnreachableError, UsageError

CONNECT_TIMEOUT_SECONDS = 10
SQLITE_BUSY_SECONDS = 30  # how long a writer waits for another writer
NAMED_LOCK_SECONDS = 30


def redacted(url: URL | str) -> str:
    """Return a URL that is safe to show: asterisks replace the password."""
    return make_url(url).render_as_string(hide_password=True)


@dataclass(frozen=True)
class Database:
    """A database and its name in messages.

    Attributes:
        engine: the SQLAlchemy engine.
        name: what people call the database, as the subject of a sentence ("TCS").
        setting: the environment variable that contains its URL, for error messages.

    """

    engine: sa.Engine
    name: str
    setting: str

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

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    def _translated(self) -> AbstractContextManager[None]:
        return translate_errors(f"{self.name} at {self.address}", self.setting)


def connect(url: str, *, name: str, setting: str) -> Database:
    """Open a database, and check that it answers.

    Args:
        url: an SQLAlchemy URL for SQLite, MySQL, MariaDB or PostgreSQL.
        name: see `Database`.
        setting: see `Database`.

    Raises:
        UsageError: the URL is malformed or unsupported.
        UnreachableError: there is no answer, the password is wrong, or the database is unknown.

    """
    try:
        parsed = make_url(url)
        arguments: dict[str, object] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
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
            f"{setting} is not a supported database URL. Examples: "
            "mysql+pymysql://USER:PASSWORD@HOST:3306/tcs, sqlite:///FILE."
        ) from None
    except OSError as error:
        raise UnreachableError(f"{name}: {error.strerror}: {error.filename}.") from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    database = Database(engine, name, setting)
    with database.read():
        pass
    return database


def _configure_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Let readers work alongside a writer (WAL), and control transactions, also for DDL."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
