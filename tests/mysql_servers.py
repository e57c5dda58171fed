"""A MariaDB server of a test's own: with TLS, and no connection without it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql

from tests.conftest import absent

START_SECONDS = 60.0


@dataclass(frozen=True)
class SecureServer:
    """A server that refuses connections without TLS, except over its Unix socket.

    Attributes:
        folder: contains ca.pem (which signed its certificate) and other.pem (which did not).
        port: of 127.0.0.1; the certificate is for "localhost" and 127.0.0.1.
        unix_socket: the path of its socket.

    """

    folder: Path
    port: int
    unix_socket: Path

    def url(self, database: str, query: str, host: str = "127.0.0.1") -> str:
        return f"mysql+pymysql://tcs:secret@{host}:{self.port}/{database}?{query}"

    def execute(self, *statements: str) -> None:
        with pymysql.connect(
            unix_socket=str(self.unix_socket), user="root", ssl_disabled=True
        ) as c:
            for statement in statements:
                c.cursor().execute(statement)
            c.commit()


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _certificates(folder: Path) -> None:
    for name in ("ca", "other"):
        _openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
            f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    _openssl(
        folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout",
        "server.key", "-out", "server.csr",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl(
        folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "30", "-extfile", "names", "-out", "server.pem",
    )  # fmt: skip


@contextmanager
def secure_server(folder: Path) -> Iterator[SecureServer]:
    """Start a server in a folder, and stop it after the block."""
    program, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if program is None or install is None or shutil.which("openssl") is None:
        absent("no mariadbd, mariadb-install-db or openssl")
    assert program is not None
    assert install is not None
    _certificates(folder)
    data, unix_socket = folder / "data", folder / "mysql.sock"
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
         "--auth-root-authentication-method=normal"],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [program, "--no-defaults", "--user=root", f"--datadir={data}", f"--port={port}",
         "--bind-address=127.0.0.1", f"--socket={unix_socket}", f"--pid-file={folder / 'pid'}",
         f"--ssl-ca={folder / 'ca.pem'}", f"--ssl-cert={folder / 'server.pem'}",
         f"--ssl-key={folder / 'server.key'}", "--require-secure-transport=ON",
         "--sql-mode=TRADITIONAL", "--skip-name-resolve", "--default-time-zone=+05:00",
         "--innodb-buffer-pool-size=32M",
         "--innodb-log-file-size=16M"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = SecureServer(folder, port, unix_socket)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                server.execute(
                    "CREATE USER tcs@'%' IDENTIFIED BY 'secret'", "GRANT ALL ON *.* TO tcs@'%'"
                )
                break
            except pymysql.err.OperationalError:
                assert time.monotonic() < deadline, "MariaDB does not start"
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()
