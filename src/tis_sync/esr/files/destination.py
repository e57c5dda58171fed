"""Where files go: a folder, SFTP or S3, given by one URL (fsspec).

A file is written under a temporary name and renamed, so that readers never see half of it. It is
then read back and compared. A file of the same name with different content is never overwritten.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from uuid import uuid4

import fsspec
from fsspec import AbstractFileSystem

from tis_sync import extras
from tis_sync.errors import DestinationError, StorageFullError, TisSyncError, UnreachableError
from tis_sync.esr.files.access import OPTIONS, PROBES, URL, Access, Kind, access, probe_folder
from tis_sync.settings.model import Settings
from tis_sync.urls import MASK, redacted_url

EXTRAS_BY_KIND = {Kind.S3: extras.S3, Kind.SFTP: extras.SFTP}
PART = ".part"  # suffix of the temporary name of a file that is being written
PROBE, PROBE_DATA = ".tis-sync-probe-", b"probe"
LONGEST_REASON = 200  # characters of a server's message that are shown
SHORTEST_SECRET = 4  # characters; a shorter one is not looked for in messages
# File systems report these failures in their own words, without common codes.
FULL = ("no space left", "disk full", "quota", "file too large")
REFUSED = (
    "permission denied", "access denied", "accessdenied", "invalidaccesskeyid", "host key",
    "signaturedoesnotmatch", "signature we calculated", "authentication failed", "forbidden",
    "no such bucket", "nosuchbucket", "does not exist", "read-only file system", "not a directory",
    "not trusted", "file exists",
)  # fmt: skip
HOST_KEY = "host key"
# An option of a wrong shape that only shows when a library uses it; a retry would not help.
WRONG_OPTION = (ImportError, ValueError, TypeError, AttributeError)


class Destination:
    """A place for files.

    Args:
        url: an fsspec URL: `file:///FOLDER` or a folder, `sftp://USER@HOST:PORT/FOLDER`,
            `s3://BUCKET/FOLDER`.
        options: further options of the file system, named as in fsspec (`endpoint_url`, `key`), and
            `host_key_fingerprint` for SFTP.
        probes: the folder in which a check may write. None: a check only reads.

    Raises:
        DestinationSettingError: an argument is malformed or unsafe. Nothing is contacted.
        UsageError: the package for the destination is not installed.

    """

    def __init__(self, url: str, options: Mapping[str, object], probes: str | None = None) -> None:
        self._access: Access = access(url, options)
        self._safe_url = redacted_url(self._access.url)
        self._opened: tuple[AbstractFileSystem, str] | None = None
        self._probes = None
        if probes is not None:
            path = self._access.url.partition("://")[2] or self._access.url
            if self._access.kind is Kind.SFTP:
                path = f"/{path.partition('/')[2]}"
            self._probes = probe_folder(self._access, path, probes)

    @property
    def shown_url(self) -> str:
        """The URL without secrets."""
        return self._safe_url

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

    def probe(self, *, writes: bool = True) -> bool:
        """Check that the destination can be used, without leaving a trace in its folder.

        Args:
            writes: whether to write a small file into the folder for probes, and remove it.

        Returns:
            Whether that was done. False: the destination was only read.

        Raises:
            UnreachableError, StorageFullError, DestinationError: it cannot be used.

        """
        with self._system() as (system, folder):
            system.invalidate_cache()
            if self._access.kind is Kind.S3:
                bucket, _, prefix = folder.partition("/")
                system.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
            else:
                self._check_folder(system, folder)
            if not writes or self._probes is None:
                return False
            self._write_probe(system, self._probes)
            return True

    def _check_folder(self, system: AbstractFileSystem, folder: str) -> None:
        """Check the folder, or the nearest existing one above it: the first export makes it."""
        path = folder or "/"
        while True:
            try:
                found = system.info(path)
                break
            except FileNotFoundError:
                if path == "/":
                    raise
                path = path.rpartition("/")[0] or "/"
        if found["type"] != "directory":
            raise NotADirectoryError(f"not a directory: {path}")
        if self._access.kind is Kind.FOLDER and not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"permission denied: {path}")

    def _write_probe(self, system: AbstractFileSystem, folder: str) -> None:
        """Write a file as `put` does, read it back, and remove it."""
        _make_folder(system, folder)
        # Two checks at once must not remove each other's file.
        path = f"{folder}/{PROBE}{uuid4().hex}"
        try:
            system.pipe_file(f"{path}{PART}", PROBE_DATA)
            system.mv(f"{path}{PART}", path)
            system.invalidate_cache()
            self._compare(system, path, PROBE_DATA)
        except BaseException:
            for left in (path, f"{path}{PART}"):
                with suppress(Exception):  # the first error says what is wrong
                    system.rm_file(left)
            raise
        system.rm_file(path)
        system.invalidate_cache()

    @contextmanager
    def _system(self) -> Iterator[tuple[AbstractFileSystem, str]]:
        """Open the file system and the folder in it, and translate its errors."""
        try:
            if self._opened is None:
                extra = EXTRAS_BY_KIND.get(self._access.kind)
                with nullcontext() if extra is None else extras.needs(extra):
                    arguments: dict[str, Any] = dict(self._access.arguments)
                    system, folder = fsspec.core.url_to_fs(self._access.url, **arguments)
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
                f"{self._safe_url} has a file {path.rsplit('/', 1)[-1]} with different "
                f"content ({len(existing):,} bytes, expected {len(data):,}). Nothing was "
                "overwritten. Find out what it is and move it away, then retry: "
                "`tis-sync esr dead retry --all`."
            )

    def _translated(self, error: Exception) -> TisSyncError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        lower = reason.lower()
        for secret in self._access.secrets:
            if len(secret) >= SHORTEST_SECRET:
                reason = reason.replace(secret, MASK)
        reason = reason[:LONGEST_REASON]
        subject = f"The export destination {self._safe_url}"
        if any(part in lower for part in FULL):
            return StorageFullError(f"{subject} has no space left ({reason}); free some space.")
        if HOST_KEY in lower:
            return DestinationError(
                f"{subject} refuses access, or is another server: it shows another host key than "
                f"{OPTIONS} names ({reason}). Ask its owner whether the key has changed; check "
                f"{URL} too."
            )
        if isinstance(error, WRONG_OPTION) or any(part in lower for part in REFUSED):
            return DestinationError(
                f"{subject} refuses access ({reason}); check {URL} and {OPTIONS}."
            )
        return UnreachableError(
            f"{subject} does not answer ({reason}); check that it is up, and {URL}."
        )


def destination(settings: Settings) -> Destination:
    """Return the destination that the settings name, without contacting it; see `Destination`."""
    return Destination(settings.export(), settings.export_options, settings.export_probe_folder)


def checked_message(shown_url: str, *, was_written: bool) -> str:
    """Say what a check of the destination has shown."""
    if was_written:
        return f"{shown_url} accepts files"
    return f"{shown_url} can be read; {PROBES} names a folder in which writing is checked"


def _make_folder(system: AbstractFileSystem, folder: str) -> None:
    """Make the folder, except on S3, where s3fs would create a bucket, even for a mistyped name."""
    if "s3" not in system.protocol:
        system.makedirs(folder, exist_ok=True)
