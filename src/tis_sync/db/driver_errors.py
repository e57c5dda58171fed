"""Translate the errors of database drivers into errors with messages for people."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from tis_sync.db.transient import Cause, cause_of
from tis_sync.errors import LockedError, StorageFullError, TisSyncError, UnreachableError

LONGEST_REASON = 160  # characters of a driver's message that are shown


@contextmanager
def translate_errors(where: str, setting: str) -> Iterator[None]:
    """Turn driver errors inside the block into errors with messages for people.

    Args:
        where: the database and its address, as the subject of a sentence.
        setting: the environment variable that contains its URL.

    Raises:
        UnreachableError: there is no answer, access is refused, or the server interrupted us.
        LockedError: another transaction holds the same rows.
        StorageFullError: the server's disk is full.
        TisSyncError: a privilege is missing.

        Other errors pass unchanged, among them `sqlalchemy.exc.IntegrityError`.

    """
    try:
        yield
    except (DBAPIError, NoConnectionError) as error:
        cause = cause_of(error)
        if cause is None:
            raise
        raise explain(cause, where, setting, reason_of(error)) from error


def explain(cause: Cause, where: str, setting: str, reason: str) -> TisSyncError:
    """Make the error for a cause.

    Args:
        cause: what went wrong.
        where: the database and its address, as the subject of a sentence.
        setting: the environment variable that contains its URL.
        reason: the message of the driver, on one line.

    """
    match cause:
        case Cause.ACCESS_DENIED:
            return UnreachableError(f"{where} refuses the user or password; check {setting}.")
        case Cause.NO_DATABASE:
            return UnreachableError(f"{where}: no such database; create it, or check {setting}.")
        case Cause.NO_PRIVILEGE:
            return TisSyncError(f"{where}: the user lacks a privilege: {reason}.")
        case Cause.DISK_FULL:
            return StorageFullError(f"{where}: the disk is full; free some space there.")
        case Cause.NOT_SQLITE:
            return UnreachableError(f"{where} is not an SQLite database file.")
        case Cause.UNREACHABLE:
            return UnreachableError(
                f"{where} does not answer ({reason}); check that it is running, and check "
                f"{setting}."
            )
        case Cause.INTERRUPTED:
            return UnreachableError(f"{where} interrupted a statement ({reason}).")
        case Cause.READ_ONLY:
            return UnreachableError(
                f"{where} accepts no writes ({reason}); check that {setting} names the primary "
                "server."
            )
        case Cause.COLLISION:
            return LockedError(f"{where}: another transaction holds the same rows ({reason}).")


def as_transient_error(error: DBAPIError) -> TisSyncError | None:
    """Translate a transient driver error where it is no longer known which database raised it.

    Returns:
        None if the error is not transient.

    """
    cause = cause_of(error)
    if cause is None:
        return None
    translated = explain(cause, "A database", "its URL", reason_of(error))
    return translated if translated.transient else None


def reason_of(error: BaseException) -> str:
    """The driver's message, on one line and shortened."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return " ".join(text.split())[:LONGEST_REASON]
