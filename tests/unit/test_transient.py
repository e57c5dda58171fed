"""Which errors of a read are worth a short wait; real errors of SQLite, and codes of servers."""

import sqlite3
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from tis_sync.db.driver_errors import translate_errors
from tis_sync.db.transient import READ_RETRY_SECONDS, retried
from tis_sync.errors import StorageFullError, TisSyncError, UnreachableError


def attempts(error: BaseException) -> int:
    """How often a read that fails with this error of a driver is tried."""
    count = 0

    def read() -> None:
        nonlocal count
        count += 1
        with translate_errors("TCS", "TIS_SYNC_TCS_URL"):
            raise sa.exc.OperationalError("SELECT", None, error)

    with pytest.raises(TisSyncError) as raised:
        retried(read, sleep=lambda _: None)
    assert raised.value.transient  # a run that fails of it is retried, after longer waits
    return count


EVERY = 1 + len(READ_RETRY_SECONDS)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (2013, EVERY),  # the connection was lost
        (1317, EVERY),  # the statement was interrupted
        (1213, EVERY),  # a deadlock
        (1045, 1),  # the password is wrong
        (1049, 1),  # there is no such database
        (1021, 1),  # the disk is full
    ],
)
def test_a_read_waits_only_for_what_passes_without_help(code: int, count: int) -> None:
    assert attempts(pymysql.err.OperationalError(code, "message")) == count


def test_a_read_does_not_wait_for_a_full_disk(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "small.sqlite")
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as full:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert attempts(full.value) == 1


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (UnreachableError("no answer"), EVERY),
        (StorageFullError("full"), 1),
        (TisSyncError("no"), 1),
    ],
)
def test_an_error_without_a_code_is_judged_by_its_kind(error: TisSyncError, count: int) -> None:
    tried = 0

    def read() -> None:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)):
        retried(read, sleep=lambda _: None)
    assert tried == count
