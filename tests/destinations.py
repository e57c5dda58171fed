"""Real destinations for files: SFTP (OpenSSH) and S3 (SeaweedFS)."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.conftest import absent

READY_SECONDS = 60.0


@dataclass
class Place:
    """A destination, and the folder in which a test can inspect its files."""

    url: str
    options: dict[str, Any]
    folder: Path | None = None

    def files(self) -> dict[str, bytes]:
        """The names and contents of its files, without temporary ones."""
        import fsspec

        system, folder = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, **self.options)
        paths = [str(path) for path in system.ls(folder, detail=False)]
        names = {path: path.rsplit("/", 1)[-1] for path in paths}
        return {
            name: bytes(system.cat_file(path))
            for path, name in names.items()
            if name and not name.startswith(".")
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sftp_server(home: Path) -> Iterator[Place]:
    """An OpenSSH server, with its own keys."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None:
        absent("no OpenSSH server (sshd)")
        raise AssertionError
    home.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(command, check=True)
    (home / "authorized").write_text((home / "user.pub").read_text())
    port = free_port()
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home / 'host'}\nUsePAM no\n"
        f"AuthorizedKeysFile {home / 'authorized'}\nStrictModes no\nPidFile none\n"
        "Subsystem sftp internal-sftp\nPermitRootLogin yes\nMaxStartups 100\n"
    )
    process = subprocess.Popen(
        [sshd, "-D", "-e", "-f", str(home / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_open(port, process)
        known_hosts = home / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}")
        import getpass

        yield Place(
            f"sftp://{getpass.getuser()}@127.0.0.1:{port}{home / 'out'}",
            {
                "client_keys": [str(home / "user")],
                "known_hosts": str(known_hosts),
                "agent_path": None,
            },
            home / "out",
        )
    finally:
        process.terminate()
        process.wait(10)


def s3_server(home: Path) -> Iterator[Place]:
    """A SeaweedFS server with a bucket."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        absent("no SeaweedFS (weed)")
        raise AssertionError
    home.mkdir(parents=True, exist_ok=True)
    key, secret = "key", "secret"
    actions = {key: ["Admin", "Read", "Write", "List", "Tagging"], "reader": ["Read", "List"]}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": secret}],
            "actions": allowed,
        }
        for name, allowed in actions.items()
    ]
    (home / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    process = subprocess.Popen(
        [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={home}", "-s3",
         f"-s3.config={home / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
         *(f"-{name}.port={port}" for name, port in ports.items()),
         # The default is 10,000 more than the port, which can be above the highest port.
         *(f"-{name}.port.grpc={free_port()}" for name in ports)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        _wait_until_open(ports["s3"], process)
        options: dict[str, Any] = {"endpoint_url": endpoint, "key": key, "secret": secret}
        _make_bucket(options)
        yield Place("s3://esr/out", options)
    finally:
        process.kill()  # a clean stop takes half a minute
        process.wait(30)


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, "the server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)


def _make_bucket(options: dict[str, Any]) -> None:
    """Make the bucket; retry until the server is ready for it."""
    import fsspec

    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            fsspec.filesystem("s3", skip_instance_cache=True, **options).mkdir("esr")
        except (OSError, HTTPError, URLError):
            assert time.monotonic() < deadline, urlopen
            time.sleep(0.5)
        else:
            return
