"""Files in folders, on SFTP and S3: whole or not at all, verified, never overwritten."""

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
from tis_sync.esr.destination import Destination

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
    """Each kind of place, each test with a folder of its own there."""
    if request.param == "folder":
        return Place(f"file://{tmp_path / 'out'}", {}, tmp_path / "out")
    found: Place = request.getfixturevalue(request.param)
    return Place(f"{found.url}/{uuid4().hex[:8]}", found.options)


def refused(url: str, options: dict[str, Any], kind: type[TisSyncError], *parts: str) -> None:
    """Putting a file there fails in this way, with one line that has all these parts."""
    with pytest.raises(kind) as told:
        Destination(url, options).put(NAME, DATA)
    assert "\n" not in str(told.value)
    for part in parts:
        assert part in str(told.value), told.value


@pytest.mark.servers
def test_a_file_that_is_put_lies_there_whole_however_often_it_is_put(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.probe()
    for _ in range(2):
        destination.put(NAME, DATA)
    assert destination.get(NAME) == DATA
    assert Destination(place.url, place.options).get(NAME) == DATA
    assert destination.names() == [NAME]


@pytest.mark.servers
def test_a_file_with_other_content_is_never_overwritten(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.put(NAME, b"other")
    with pytest.raises(DestinationError, match="lies there with other content"):
        destination.put(NAME, DATA)
    assert destination.get(NAME) == b"other"


@pytest.mark.servers
def test_what_a_killed_exporter_left_under_a_temporary_name_is_replaced(place: Place) -> None:
    destination = Destination(place.url, place.options)
    destination.put(f".{NAME}.part", b"half of it")
    destination.put(NAME, DATA)
    assert destination.get(NAME) == DATA


@pytest.mark.servers
def test_a_wrong_host_key_is_refused_and_does_not_pass(sftp: Place, tmp_path: Path) -> None:
    known = Path(sftp.options["known_hosts"]).read_text()
    other = tmp_path / "known_hosts"
    user_key = Path(sftp.options["client_keys"][0] + ".pub").read_text()
    other.write_text(known.split(" ")[0] + " " + user_key)
    options = sftp.options | {"known_hosts": str(other)}
    refused(sftp.url, options, DestinationError, "refuses us", "TIS_SYNC_EXPORT_URL")


@pytest.mark.servers
def test_a_key_that_the_server_does_not_know_is_refused(sftp: Place) -> None:
    host_key = str(Path(sftp.options["client_keys"][0]).parent / "host")
    options = sftp.options | {"client_keys": [host_key]}
    refused(sftp.url, options, DestinationError, "refuses us")


@pytest.mark.servers
def test_a_wrong_s3_secret_is_refused_and_does_not_pass(s3: Place) -> None:
    refused(s3.url, s3.options | {"secret": "wrong"}, DestinationError, "refuses us")


@pytest.mark.servers
def test_who_may_only_read_is_refused(s3: Place) -> None:
    refused(s3.url, s3.options | {"key": "reader"}, DestinationError, "refuses us")


def test_a_server_that_does_not_answer_passes() -> None:
    wire = Wire("127.0.0.1", 1)
    wire.close()
    options = {"known_hosts": None}
    refused(f"sftp://u@127.0.0.1:{wire.port}/x", options, UnreachableError, "does not answer")
    endpoint = {"endpoint_url": f"http://127.0.0.1:{wire.port}", "key": "k", "secret": "s"}
    refused("s3://esr/x", endpoint, UnreachableError, "does not answer")


def test_a_folder_that_cannot_be_written_to_and_an_unknown_kind_of_url(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(f"file://{tmp_path / 'file' / 'x'}", {}, DestinationError, "refuses us")
    refused("nonsense://x", {}, DestinationError, "nonsense", "TIS_SYNC_EXPORT_URL")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_passes_when_somebody_makes_room(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").symlink_to("/dev/full")
    refused(f"file://{tmp_path}", {}, StorageFullError, "no room left")
