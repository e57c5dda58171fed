"""Where files go: a folder, SFTP or S3, by one URL (fsspec).

A file is written under a temporary name and renamed, so that nobody finds half of one; then it is
read back, and its size and SHA-256 compared. A file of that name that says something else is never
overwritten.
"""

from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem

from tis_sync.errors import DestinationError, StorageFullError, TisSyncError, UnreachableError
from tis_sync.esr.files import sha256

SETTING = "TIS_SYNC_EXPORT_URL"
PART = ".part"
FULL = ("no space left", "disk full", "quota", "file too large")
REFUSED = (
    "permission denied", "access denied", "accessdenied", "invalidaccesskeyid", "host key",
    "signaturedoesnotmatch", "signature we calculated", "authentication failed", "forbidden",
    "no such bucket", "nosuchbucket", "does not exist", "read-only file system", "not a directory",
    "not trusted", "file exists",
)  # fmt: skip


def shown(url: str) -> str:
    """The URL as it may be shown: without its password."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":***@")


def _make_folder(system: AbstractFileSystem, folder: str) -> None:
    """S3 has no folders; asked for one, s3fs would make a bucket, even of a mistyped name."""
    if "s3" not in system.protocol:
        system.makedirs(folder, exist_ok=True)


class Destination:
    """A place for files.

    Args:
        url: an fsspec URL: `file:///FOLDER` or a folder, `sftp://USER@HOST:PORT/FOLDER`,
            `s3://BUCKET/FOLDER`.
        options: what else the file system wants, as fsspec names it (`endpoint_url`, `key`).

    """

    def __init__(self, url: str, options: dict[str, object]) -> None:
        self._url = url.rstrip("/")
        self._options = options
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def put(self, name: str, data: bytes) -> None:
        """Have a file lie there, whole; one that lies there already, with the same bytes, stays.

        Raises:
            UnreachableError: the server does not answer; passes.
            StorageFullError: no room left; passes when somebody makes room.
            DestinationError: refused, or a file of that name says something else; does not pass.

        """
        try:
            system, folder = self._open()
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
        except TisSyncError:
            raise
        except Exception as error:
            self._opened = None  # a connection that failed is not used again
            raise self._explained(error) from error

    def get(self, name: str) -> bytes:
        """The bytes of a file that lies there.

        Raises:
            UnreachableError, DestinationError: it cannot be read.

        """
        try:
            system, folder = self._open()
            return bytes(system.cat_file(f"{folder}/{name}"))
        except Exception as error:
            self._opened = None
            raise self._explained(error) from error

    def names(self) -> list[str]:
        """The names of the files that lie there, but for temporary ones.

        Raises:
            UnreachableError, DestinationError: it cannot be read.

        """
        try:
            system, folder = self._open()
            found = [str(path).rsplit("/", 1)[-1] for path in system.ls(folder, detail=False)]
        except Exception as error:
            self._opened = None
            raise self._explained(error) from error
        return sorted(name for name in found if name and not name.startswith("."))

    def probe(self) -> None:
        """Write a small file and remove it: the destination can be written to.

        Raises:
            UnreachableError, StorageFullError, DestinationError: it cannot.

        """
        try:
            system, folder = self._open()
            _make_folder(system, folder)
            path = f"{folder}/.tis-sync-probe"
            system.pipe_file(path, b"probe")
            system.rm_file(path)
        except TisSyncError:
            raise
        except Exception as error:
            self._opened = None
            raise self._explained(error) from error

    def _open(self) -> tuple[AbstractFileSystem, str]:
        if self._opened is None:
            system, folder = fsspec.core.url_to_fs(self._url, **self._options)
            self._opened = system, str(folder).rstrip("/")
        return self._opened

    def _compare(self, system: AbstractFileSystem, path: str, data: bytes) -> None:
        there = system.cat_file(path)
        if sha256(there) != sha256(data):
            raise DestinationError(
                f"{shown(self._url)}: {path.rsplit('/', 1)[-1]} lies there with other content "
                f"({len(there):,} bytes, {len(data):,} expected). Nothing was overwritten: see "
                "what it is, move it away, then `tis-sync esr dead retry --all`."
            )

    def _explained(self, error: Exception) -> TisSyncError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        lower = reason.lower()
        where = f"The export destination {shown(self._url)}"
        if any(part in lower for part in FULL):
            return StorageFullError(f"{where} has no room left ({reason}); make room there.")
        if isinstance(error, (ImportError, ValueError)) or any(part in lower for part in REFUSED):
            return DestinationError(f"{where} refuses us ({reason}); check {SETTING}.")
        return UnreachableError(
            f"{where} does not answer ({reason}); check that it is there, and {SETTING}."
        )
