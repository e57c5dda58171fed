"""Where files go: a folder, SFTP or S3, given by one URL (fsspec).

A file is written under a temporary name and renamed, so that readers never see half of it. It is
then read back and compared. A file of the same name with different content is never overwritten.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem

from tis_sync import extras
from tis_sync.errors import DestinationError, StorageFullError, TisSyncError, UnreachableError

SETTING = "TIS_SYNC_EXPORT_URL"
EXTRAS_BY_SCHEME = {"s3": extras.S3, "sftp": extras.SFTP, "ssh": extras.SFTP}
PART = ".part"  # suffix of the temporary name of a file that is being written
LONGEST_REASON = 200  # characters of a server's message that are shown
# File systems report these failures in their own words, without common codes.
FULL = ("no space left", "disk full", "quota", "file too large")
REFUSED = (
    "permission denied", "access denied", "accessdenied", "invalidaccesskeyid", "host key",
    "signaturedoesnotmatch", "signature we calculated", "authentication failed", "forbidden",
    "no such bucket", "nosuchbucket", "does not exist", "read-only file system", "not a directory",
    "not trusted", "file exists",
)  # fmt: skip


def redacted_url(url: str) -> str:
    """Return a URL that is safe to show: asterisks replace the password."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":***@")


class Destination:
    """A place for files.

    Args:
        url: an fsspec URL: `file:///FOLDER` or a folder, `sftp://USER@HOST:PORT/FOLDER`,
            `s3://BUCKET/FOLDER`.
        options: further options of the file system, named as in fsspec (`endpoint_url`, `key`).

    """

    def __init__(self, url: str, options: dict[str, object]) -> None:
        self._url = url.rstrip("/")
        self._options = options
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def put(self, name: str, data: bytes) -> None:
        """Write a file; a file with the same name and bytes stays as it is.

        Raises:
            UnreachableError: the server does not answer; transient.
            StorageFullError: there is no space left; transient.
            DestinationError: the destination refuses access, or has a file of that name with
                different content.

        """
        with self._system() as (system, folder):
            path = f"{folder}/{name}"
            if system.exists(path):
                self._compare(system, path, data)
                return
            _make_folder(system, folder)
            part = f"{folder}/.{name}{PART}"
            system.pipe_file(part, data)
            system.mv(part, path)
            system.invalidate_cache()
            self._compare(system, path, data)

    def probe(self) -> None:
        """Check that the destination can be written to: write a small file and remove it.

        Raises:
            UnreachableError, StorageFullError, DestinationError: it cannot.

        """
        with self._system() as (system, folder):
            _make_folder(system, folder)
            path = f"{folder}/.tis-sync-probe"
            system.pipe_file(path, b"probe")
            system.rm_file(path)

    @contextmanager
    def _system(self) -> Iterator[tuple[AbstractFileSystem, str]]:
        """Open the file system and the folder in it, and translate its errors."""
        try:
            if self._opened is None:
                extra = EXTRAS_BY_SCHEME.get(urlsplit(self._url).scheme)
                with nullcontext() if extra is None else extras.needs(extra):
                    system, folder = fsspec.core.url_to_fs(self._url, **self._options)
                self._opened = system, str(folder).rstrip("/")
            yield self._opened
        except TisSyncError:
            raise
        except Exception as error:
            self._opened = None  # do not reuse a connection that failed
            raise self._translated(error) from error

    def _compare(self, system: AbstractFileSystem, path: str, data: bytes) -> None:
        existing = bytes(system.cat_file(path))
        if existing != data:
            raise DestinationError(
                f"{redacted_url(self._url)} has a file {path.rsplit('/', 1)[-1]} with different "
                f"content ({len(existing):,} bytes, expected {len(data):,}). Nothing was "
                "overwritten. Find out what it is and move it away, then retry: "
                "`tis-sync esr dead retry --all`."
            )

    def _translated(self, error: Exception) -> TisSyncError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
        lower = reason.lower()
        subject = f"The export destination {redacted_url(self._url)}"
        if any(part in lower for part in FULL):
            return StorageFullError(f"{subject} has no space left ({reason}); free some space.")
        if isinstance(error, (ImportError, ValueError)) or any(part in lower for part in REFUSED):
            return DestinationError(f"{subject} refuses access ({reason}); check {SETTING}.")
        return UnreachableError(
            f"{subject} does not answer ({reason}); check that it is up, and {SETTING}."
        )


def _make_folder(system: AbstractFileSystem, folder: str) -> None:
    """Make the folder, except on S3, where s3fs would create a bucket, even for a mistyped name."""
    if "s3" not in system.protocol:
        system.makedirs(folder, exist_ok=True)
