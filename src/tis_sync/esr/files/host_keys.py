"""Host keys of SFTP servers, by their fingerprints. Only import this if SFTP is installed."""

from dataclasses import dataclass
from typing import Any

import asyncssh
from asyncssh.public_key import get_default_public_key_algs


class _Client(asyncssh.SSHClient):
    """Accepts a host key by its fingerprint."""

    def __init__(self, fingerprints: tuple[str, ...]) -> None:
        self._fingerprints = fingerprints

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Whether the key has one of the fingerprints.

        Raises:
            ValueError: it has not; asyncssh refuses the host, with this reason.

        """
        del host, addr, port
        fingerprint = key.get_fingerprint()
        if fingerprint not in self._fingerprints:
            raise ValueError(f"the server shows the host key {fingerprint}")
        return True


@dataclass(frozen=True)
class _ClientFactory:
    """Makes clients that accept these host keys and no others.

    fsspec recognises a connection that it can use again by the text of its arguments, so this is a
    dataclass, and not a closure.
    """

    fingerprints: tuple[str, ...]

    def __call__(self) -> asyncssh.SSHClient:
        return _Client(self.fingerprints)


def _no_known_hosts(host: str, address: str, port: int | None) -> tuple[list[str], ...]:
    """Return the trusted, certifying and revoked keys of a host: none."""
    del host, address, port
    return [], [], []


def arguments(fingerprints: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a connection that accepts only hosts with these keys.

    Args:
        fingerprints: as `ssh-keygen -l` prints them: "SHA256:...".

    """
    return {
        "client_factory": _ClientFactory(fingerprints),
        # asyncssh would take None for "any host", and an empty list for the user's own file.
        "known_hosts": _no_known_hosts,
        # A certificate vouches for a host in another way.
        "x509_trusted_certs": None,
        "server_host_key_algs": [name.decode() for name in get_default_public_key_algs()],
    }
