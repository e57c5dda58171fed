"""Translate the errors of database drivers, and decide which of them are transient."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from tis_sync.errors import LockedError, StorageFullError, TisSyncError, UnreachableError

# Error numbers of MySQL and MariaDB.
ACCESS_DENIED = {1044, 1045, 1698}
RIGHTS_MISSING = {1142, 1143, 1227}
UNKNOWN_DATABASE = {1049}
DISK_FULL = {1021, 1114, 3, 28}
# Lock wait timeout and deadlock; in PostgreSQL: serialization failure and deadlock.
COLLISION = {1205, 1213, "40001", "40P01"}
# Drivers have no codes for many connection failures; these texts identify them.
CONNECTION_FAILURES = (
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
LONGEST_REASON = 160  # characters of a driver's message that are shown


@contextmanager
def translate_errors(where: str, setting: str) -> Iterator[None]:
    """Turn driver errors inside the block into errors with messages for people.

    Args:
        where: the database and its address, as the subject of a sentence.
        setting: the environment variable that contains its URL.

    Raises:
        UnreachableError: there is no answer, or access is refused.
        LockedError: another transaction holds the same rows.
        StorageFullError: the server's disk is full.
        TisSyncError: a privilege is missing.

        Other errors pass unchanged, among them `sqlalchemy.exc.IntegrityError`.

    """
    try:
        yield
    except DBAPIError as error:
        reason, code = str(error.orig), _code(error)
        if code in ACCESS_DENIED or "password authentication failed" in reason:
            raise UnreachableError(
                f"{where} refuses the user or password; check {setting}."
            ) from error
        if code in UNKNOWN_DATABASE or ('database "' in reason and "does not exist" in reason):
            raise UnreachableError(f"{where}: no such database; check {setting}.") from error
        if code in RIGHTS_MISSING:
            raise TisSyncError(f"{where}: the user lacks a privilege: {reason}.") from error
        if code in DISK_FULL or "disk is full" in reason or "No space left" in reason:
            raise StorageFullError(f"{where}: the disk is full; free some space there.") from error
        if "not a database" in reason:
            raise UnreachableError(f"{where} is not an SQLite database file.") from error
        if _is_connection_failure(error):
            raise UnreachableError(
                f"{where} does not answer ({_short(reason)}); check that it is running, and "
                f"check {setting}."
            ) from error
        if _is_collision(error):
            raise LockedError(
                f"{where}: another transaction holds the same rows ({_short(reason)})."
            ) from error
        raise


def as_transient_error(error: DBAPIError) -> TisSyncError | None:
    """Translate a transient driver error where it is no longer known which database raised it.

    Returns:
        None if the error is not transient.

    """
    reason = _short(str(error.orig))
    if _is_connection_failure(error):
        return UnreachableError(f"A database does not answer ({reason}); check that it is running.")
    if _is_collision(error):
        return LockedError(f"Another transaction holds the same rows ({reason}).")
    return None


def _code(error: DBAPIError) -> object:
    return error.orig.args[0] if error.orig and error.orig.args else None


def _is_collision(error: DBAPIError) -> bool:
    return _code(error) in COLLISION or getattr(error.orig, "sqlstate", None) in COLLISION


def _is_connection_failure(error: DBAPIError) -> bool:
    reason = str(error.orig)
    return error.connection_invalidated or any(text in reason for text in CONNECTION_FAILURES)


def _short(reason: str) -> str:
    return " ".join(reason.split())[:LONGEST_REASON]
