"""What an error of a database means, by the codes of the servers, and which errors are transient.

This is the only list: the errors are translated from here (`tis_sync.db.driver_errors`). Runs,
exports and messages ask `TisSyncError.transient`; they wait for minutes and longer, so a person may
meanwhile free a full disk or correct a password. A read waits for seconds, so it only waits for
what passes without help (`PASSING`).
"""

import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

import psycopg
import pymysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from tis_sync.errors import StorageFullError, TisSyncError
from tis_sync.logs import get

Result = TypeVar("Result")

# Waits before a read is repeated that failed because the server was away for a moment, in seconds.
# Together they outlast a failover; a longer absence is left to the retries of runs and exports.
READ_RETRY_SECONDS = (0.25, 0.75, 2.0, 4.0)
# A read that has already taken this long is not repeated: it ran into a timeout, and the next
# attempt would too.
REPEAT_WITHIN_SECONDS = 30.0


class Cause(Enum):
    """What went wrong in a database."""

    ACCESS_DENIED = "the user or the password is wrong"
    NO_DATABASE = "there is no database of that name"
    NO_PRIVILEGE = "the user lacks a privilege"
    DISK_FULL = "the server's disk is full"
    NOT_SQLITE = "the file is not an SQLite database"
    UNREACHABLE = "there is no server, or it has closed the connection"
    INTERRUPTED = "the server has interrupted the statement"
    READ_ONLY = "the server accepts no writes, as after a failover"
    COLLISION = "another transaction holds the same rows"


# Error numbers of MySQL and MariaDB, and those of the driver (from 2000 to 2999, and 0).
MYSQL = {
    Cause.ACCESS_DENIED: {1044, 1045, 1698},
    Cause.NO_DATABASE: {1049},
    Cause.NO_PRIVILEGE: {1142, 1143, 1227, 1370},
    Cause.DISK_FULL: {3, 28, 1021, 1026, 1114},
    # 1040, 1203, 1226: too many connections; 1047: a cluster node that is not ready; 1053: shutting
    # down; 1927, 3169: killed; 4031: idle for too long; the others: network errors.
    Cause.UNREACHABLE: {
        0, 1040, 1042, 1043, 1047, 1053, 1079, 1080, 1129, 1152, 1153, 1154, 1155, 1156, 1157, 1158,
        1159, 1160, 1161, 1184, 1203, 1226, 1927, 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2026,
        2055, 3169, 4031,
    },
    Cause.INTERRUPTED: {1317, 1969, 3024},
    Cause.READ_ONLY: {1290, 1792, 1836},
    Cause.COLLISION: {1020, 1205, 1213, 3572},
}  # fmt: skip
# SQLSTATE codes of PostgreSQL; two characters stand for a class.
POSTGRESQL = {
    Cause.ACCESS_DENIED: {"28"},
    Cause.NO_DATABASE: {"3D000"},
    Cause.NO_PRIVILEGE: {"42501"},
    Cause.DISK_FULL: {"53100"},
    Cause.UNREACHABLE: {"08", "53300", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"},
    Cause.INTERRUPTED: {"57014"},
    Cause.READ_ONLY: {"25006"},
    Cause.COLLISION: {"40001", "40P01", "55P03"},
}
SQLITE = {
    Cause.NO_PRIVILEGE: {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM},
    Cause.DISK_FULL: {sqlite3.SQLITE_FULL},
    Cause.NOT_SQLITE: {sqlite3.SQLITE_NOTADB},
    Cause.UNREACHABLE: {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR},
    Cause.COLLISION: {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED},
}
PRIMARY_CODE = 0xFF  # SQLite adds details in the higher bits

PASSING = frozenset({Cause.UNREACHABLE, Cause.INTERRUPTED, Cause.READ_ONLY, Cause.COLLISION})
"""The causes that pass without help, within seconds."""

# "ERROR 1213 (40001): ..." is how ConnectorX quotes the server; it has no attribute for the number.
CONNECTORX_CODE = re.compile(r"ERROR (\d+) \([0-9A-Z]{5}\)")


def cause_of(error: BaseException) -> Cause | None:
    """What went wrong, if a driver, SQLAlchemy or ConnectorX raised the error.

    Returns:
        None if the statement itself is wrong, or if the error is of another kind.

    """
    if isinstance(error, NoConnectionError):  # all connections of the pool are in use
        return Cause.UNREACHABLE
    if isinstance(error, RuntimeError):
        quoted = CONNECTORX_CODE.search(str(error))
        return None if quoted is None else _lookup(MYSQL, int(quoted[1]))
    if not isinstance(error, DBAPIError):
        return None
    found = _cause_of_driver_error(error.orig)
    if found is None and error.connection_invalidated:
        return Cause.UNREACHABLE
    return found


def _cause_of_driver_error(error: BaseException | None) -> Cause | None:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # absent if the module itself raised it
        return None if code is None else _lookup(SQLITE, code & PRIMARY_CODE)
    if isinstance(error, pymysql.err.Error):
        return _lookup(MYSQL, error.args[0] if error.args else 0)
    if isinstance(error, psycopg.Error):
        if error.sqlstate is not None:
            return _lookup(POSTGRESQL, error.sqlstate, error.sqlstate[:2])
        return _refused_connection(error) if isinstance(error, psycopg.OperationalError) else None
    return None


def _refused_connection(error: psycopg.OperationalError) -> Cause:
    """Why PostgreSQL refused a connection; the driver has no code for this, only the text."""
    text = str(error)
    if "authentication failed" in text or ('role "' in text and "does not exist" in text):
        return Cause.ACCESS_DENIED
    if 'database "' in text and "does not exist" in text:
        return Cause.NO_DATABASE
    return Cause.UNREACHABLE


def _lookup(causes: dict[Cause, set[int]] | dict[Cause, set[str]], *codes: object) -> Cause | None:
    return next((c for c, known in causes.items() if any(code in known for code in codes)), None)


def retried(
    act: Callable[[], Result],
    *,
    waits: Sequence[float] = READ_RETRY_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Call a function that reads, and repeat it after short waits if the cause passes by itself.

    Args:
        act: the function; it changes nothing.
        waits: the waits before each repetition, in seconds.
        sleep: waits for some seconds.
        clock: monotonic, in seconds.

    Raises:
        TisSyncError: what the last call raised. It is not repeated if its cause is not one of
            `PASSING`, or if `REPEAT_WITHIN_SECONDS` have passed.

    """
    began = clock()
    for wait in waits:
        try:
            return act()
        except TisSyncError as error:
            if not _passes(error) or clock() - began > REPEAT_WITHIN_SECONDS:
                raise
            get().warning("a read is repeated", reason=str(error), retry_in_seconds=wait)
            sleep(wait)
    return act()


def _passes(error: TisSyncError) -> bool:
    """Whether what went wrong passes without help. Without a code, its kind decides."""
    cause = None if error.__cause__ is None else cause_of(error.__cause__)
    if cause is None:
        return error.transient and not isinstance(error, StorageFullError)
    return cause in PASSING
