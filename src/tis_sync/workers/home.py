"""The embedded home: one process at a time works in it, and others know which."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from errno import EDQUOT, EFBIG, ENOSPC
from os import getpid
from pathlib import Path

from filelock import FileLock, Timeout

from tis_sync.errors import StorageFullError, TisSyncError, UsageError

DISK_FULL = {EDQUOT, EFBIG, ENOSPC}
POLL_SECONDS = 0.2  # how often a process that waits for the home tries again


class Purpose(StrEnum):
    """Why a process works in a home."""

    WORKER = "worker"  # it carries out everything that is requested, until it is stopped
    COMMAND = "command"  # it carries out what one command requested, and ends


@dataclass(frozen=True)
class Owner:
    """The process that works in a home: its id, and why it does. None: unknown."""

    process: int | None
    purpose: Purpose | None


class HomeInUseError(UsageError):
    """Another process works in the embedded home; `owner` names it."""

    def __init__(self, home: Path, owner: Owner) -> None:
        super().__init__(
            f"{home} is in use by another tis-sync process (id {owner.process or '?'}). Wait until "
            "it has ended, or set TIS_SYNC_HOME to another folder. To run several processes at the "
            "same time, set TIS_SYNC_STATE_URL to a PostgreSQL database."
        )
        self.owner = owner


@contextmanager
def home_lock(home: Path, purpose: Purpose = Purpose.WORKER) -> Iterator[None]:
    """Hold the lock of an embedded home.

    Args:
        home: the folder; it is created if necessary.
        purpose: why, for other processes.

    Raises:
        HomeInUseError: another process holds it.
        StorageFullError: the disk of the home is full.

    """
    lock = FileLock(home / "lock", timeout=0)
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _owner_file(home).write_text(f"{getpid()} {purpose}")
    except Timeout:
        raise HomeInUseError(home, owner_of(home)) from None
    except OSError as error:
        lock.release()
        if error.errno in DISK_FULL:
            raise StorageFullError(f"The disk of {home} is full; free some space there.") from None
        raise TisSyncError(f"{home} cannot be used: {error.strerror}.") from None
    try:
        yield
    finally:
        lock.release()


def owner_of(home: Path) -> Owner:
    """The process that holds the lock of a home, or that held it last."""
    try:
        process, _, purpose = _owner_file(home).read_text().partition(" ")
        return Owner(int(process), Purpose(purpose))
    except (OSError, ValueError):
        return Owner(None, None)


def _owner_file(home: Path) -> Path:
    return home / "lock.owner"
