"""ConnectorX: whole columns from MySQL or MariaDB into Polars, and what its errors mean."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

os.environ.setdefault("RUST_LOG", "off")  # otherwise ConnectorX prints each refused connection

import connectorx as cx
import polars as pl
from sqlalchemy.engine import URL

from tis_sync.db.database import Database
from tis_sync.db.driver_errors import explain, reason_of
from tis_sync.db.mysql_relay import Relay, relay
from tis_sync.db.transient import Cause, cause_of
from tis_sync.errors import SourceError, TisSyncError, is_panic

# In UTC, and with days that do not exist as they are: by default, MySQL 8 turns them into NULL.
READ_SESSION = "time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'"
SMALL_ROWS = 20_000  # the driver takes a tenth of a second for as many
QUOTED = re.compile(r"`.*`|'.*'|\".*\"", re.DOTALL)


def read_small(database: Database, sql: str) -> pl.DataFrame | None:
    """Read the result of a SELECT through the driver, if it is small.

    Each read of ConnectorX leaves threads behind for half a minute, which is not worth it for a few
    rows.

    Args:
        database: TCS, in MySQL or MariaDB.
        sql: the statement, limited to one row more than `SMALL_ROWS`.

    Returns:
        The result, with the driver's types; None if it is not small.

    Raises:
        UnreachableError, LockedError: TCS does not answer, or interrupted the statement.

    """
    with database.read() as connection:
        connection.exec_driver_sql(f"SET @sql_mode_before = @@sql_mode, {READ_SESSION}")
        # The percent signs of a statement without parameters are only percent signs.
        plain = connection.execution_options(no_parameters=True)
        try:
            result = plain.exec_driver_sql(sql)
            names, rows = list(result.keys()), result.fetchall()
            connection.exec_driver_sql("SET sql_mode = @sql_mode_before")
        except BaseException:
            connection.invalidate()  # its session is not as it was
            raise
    if len(rows) > SMALL_ROWS:
        return None
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return pl.DataFrame(
        [pl.Series(name, values) for name, values in zip(names, columns, strict=True)]
    )


def read_columns(database: Database, sql: str, table: str) -> pl.DataFrame:
    """Read the result of a SELECT, with the driver's types.

    Args:
        database: TCS, in MySQL or MariaDB.
        sql: the statement.
        table: its main table, for error messages.

    Raises:
        UnreachableError, LockedError: TCS does not answer, or interrupted the statement.
        SourceError: TCS refuses the statement, or ConnectorX cannot represent a value.

    """
    assert database.server is not None
    # A wrong password is noticed here; ConnectorX would try it for half a minute.
    with database.read():
        pass
    with _relayed(database) as relayed:
        url = _url(database.engine.url, relayed.address)
        try:
            frame = cx.read_sql(
                url, sql, return_type="polars", pre_execution_query=f"SET {READ_SESSION}"
            )
        except Exception as error:
            raise _translated(error, relayed, database, table) from error
        except BaseException as error:
            if not is_panic(error):
                raise
            raise SourceError(
                f"TCS at {database.address}: {table} contains a value that ConnectorX cannot "
                f"represent: {QUOTED.sub('...', reason_of(error))}."
            ) from None  # the panic quotes the value
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _relayed(database: Database) -> Iterator[Relay]:
    assert database.server is not None
    with ExitStack() as stack:
        try:
            relayed = stack.enter_context(relay(database.server))
        except (OSError, EOFError) as error:
            where = f"TCS at {database.address}"
            cause = Cause.UNREACHABLE
            raise explain(cause, where, database.setting, reason_of(error)) from error
        yield relayed


def _translated(error: Exception, relayed: Relay, database: Database, table: str) -> TisSyncError:
    """The error for an exception of ConnectorX: by the server's code, or by what the relay saw."""
    where = f"TCS at {database.address}"
    cause, reason = cause_of(error), reason_of(error)
    if cause is None and relayed.failure is not None:
        cause, reason = Cause.UNREACHABLE, reason_of(relayed.failure)
    if cause is None:
        return SourceError(f"{where}: cannot read {table}: {reason}")
    return explain(cause, where, database.setting, reason)


def _url(url: URL, address: tuple[str, int] | str) -> str:
    """The URL of the relay in ConnectorX's form, with the password."""
    if isinstance(address, str):
        target = url.set(drivername="mysql", host="localhost", port=None, query={"socket": address})
    else:
        host, port = address
        # By default it would look for a Unix socket of the server, past the relay.
        query = {"prefer_socket": "false"}
        target = url.set(drivername="mysql", host=host, port=port, query=query)
    return target.render_as_string(hide_password=False)
