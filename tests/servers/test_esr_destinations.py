"""Destinations in folders, on SFTP and S3: a file is whole, verified, and never overwritten."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.destinations import Place, s3_server, sftp_server
from tests.wire import Wire
from tis_sync.errors import (
    DestinationError,
    StorageFullError,
    TisSyncError,
    UnreachableError,
)
from tis_sync.esr.files.destination import Destination

NAME = "DE_WES_APP_20260302_00000001.DAT"
DATA = 'HDR,"APP"\r\nAPP,"Siân \\","𠮷"\r\n'.encode() * 1000


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from sftp_server(tmp_path_factory.mktemp("sftp"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from s3_server(tmp_path_factory.mktemp("s3"))


@pytest.fixture(params=["folder", "sftp", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of destination, with a new folder for each test."""
    if request.param == "folder":
        return Place(f"file://{tmp_path / 'out'}", {}, tmp_path / "out")
    server: Place = request.getfixturevalue(request.param)
    return Place(f"{server.url}/{uuid4().hex[:8]}", server.options)


def check_failure(url: str, options: dict[str, Any], kind: type[TisSyncError], *parts: str) -> None:
    """Check that putting a file fails with this error, in one line with all these parts."""
    with pytest.raises(kind) as caught:
        Destination(url, options).put(NAME, DATA)
    assert "\n" not in str(caught.value)
    assert kind.transient == (kind is not DestinationError)
    for part in parts:
        assert part in str(caught.value), caught.value


@pytest.mark.servers
def test_a_file_is_whole_however_often_it_is_put(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.probe()
    for _ in range(2):
        destination.put(NAME, DATA)
    assert place.files() == {NAME: DATA}


@pytest.mark.servers
def test_a_file_with_other_content_is_never_overwritten(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.put(NAME, b"other")
    with pytest.raises(DestinationError, match="with different content"):
        destination.put(NAME, DATA)
    assert place.files() == {NAME: b"other"}


@pytest.mark.servers
def test_the_temporary_file_of_a_killed_exporter_is_replaced(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.put(f".{NAME}.part", b"half of it")
    destination.put(NAME, DATA)
    assert place.files() == {NAME: DATA}


@pytest.mark.servers
def test_a_wrong_host_key_is_a_permanent_failure(sftp: Place, tmp_path: Path) -> None:
    host = Path(sftp.options["known_hosts"]).read_text().split(" ")[0]
    other = tmp_path / "known_hosts"
    user_key = Path(sftp.options["client_keys"][0] + ".pub").read_text()
    other.write_text(f"{host} {user_key}")
    options = sftp.options | {"known_hosts": str(other)}
    check_failure(sftp.url, options, DestinationError, "refuses access", "TIS_SYNC_EXPORT_URL")


@pytest.mark.servers
def test_a_key_that_the_server_does_not_know_is_a_permanent_failure(sftp: Place) -> None:
    host_key = str(Path(sftp.options["client_keys"][0]).parent / "host")
    options = sftp.options | {"client_keys": [host_key]}
    check_failure(sftp.url, options, DestinationError, "refuses access")


@pytest.mark.servers
def test_a_wrong_s3_secret_is_a_permanent_failure(s3: Place) -> None:
    check_failure(s3.url, s3.options | {"secret": "wrong"}, DestinationError, "refuses access")


@pytest.mark.servers
def test_read_only_permission_is_a_permanent_failure(s3: Place) -> None:
    check_failure(s3.url, s3.options | {"key": "reader"}, DestinationError, "refuses access")


def test_a_server_that_does_not_answer_is_a_transient_failure() -> None:
    wire = Wire("127.0.0.1", 1)
    wire.close()
    options = {"host_key_fingerprint": "SHA256:" + "a" * 43}
    check_failure(f"sftp://u@127.0.0.1:{wire.port}/x", options, UnreachableError, "does not answer")
    endpoint = {"endpoint_url": f"http://127.0.0.1:{wire.port}", "key": "k", "secret": "s"}
    check_failure("s3://esr/x", endpoint, UnreachableError, "does not answer")


def test_a_folder_without_permission_and_an_unknown_kind_of_url_are_permanent_failures(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    check_failure(f"file://{tmp_path / 'file' / 'x'}", {}, DestinationError, "refuses access")
    check_failure("nonsense://x", {}, DestinationError, "nonsense", "TIS_SYNC_EXPORT_URL")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_transient_failure(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").symlink_to("/dev/full")
    check_failure(f"file://{tmp_path}", {}, StorageFullError, "no space left")
