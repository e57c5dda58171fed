"""Nobody gets a file, a password or a probe but the server that the settings name."""

import hashlib
import inspect
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.conftest import Program, program
from tests.cli.test_wrong_input import expect_one_line
from tests.destinations import Place, s3_server, sftp_server
from tests.running import working
from tests.web.conftest import console
from tis_sync.app import examine
from tis_sync.doctor.finding import Finding
from tis_sync.errors import DestinationError, TisSyncError, UsageError
from tis_sync.esr.files.destination import Destination
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

__all__ = ["program"]

NAME, DATA = "DE_WES_APP_20260302_00000001.DAT", b'HDR,"APP"\r\n'
SECRET = "Tr0ub4dor"


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


def without(options: dict[str, Any], *names: str, **others: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names} | others


def fingerprint(public_key: Path) -> str:
    """The fingerprint that `ssh-keygen -l` prints."""
    digest = hashlib.sha256(b64decode(public_key.read_text().split()[1])).digest()
    return "SHA256:" + b64encode(digest).decode().rstrip("=")


def keys_of(sftp: Place) -> Path:
    """The folder with the keys of the server and of its user."""
    return Path(sftp.options["client_keys"][0]).parent


@pytest.mark.servers
@pytest.mark.parametrize("others", [{}, {"known_hosts": None}, {"known_hosts": ""},
                                    {"known_hosts": []}])  # fmt: skip
def test_an_sftp_server_whose_key_is_not_named_gets_nothing(
    sftp: Place, others: dict[str, Any], tmp_path: Path
) -> None:
    place = Place(f"{sftp.url}/{uuid4().hex[:8]}", without(sftp.options, "known_hosts", **others))
    with pytest.raises(UsageError, match="known_hosts") as raised:
        Destination(place.url, place.options).put(NAME, DATA)
    assert "host_key_fingerprint" in str(raised.value)
    assert "ssh-keyscan" in str(raised.value)
    assert not (sftp.folder or tmp_path).joinpath(place.url.rsplit("/", 1)[-1]).exists()


@pytest.mark.servers
def test_a_fingerprint_is_enough_and_another_key_is_refused(sftp: Place) -> None:
    keys = keys_of(sftp)
    right, wrong = fingerprint(keys / "host.pub"), fingerprint(keys / "user.pub")
    for accepted in (right, [wrong, right]):
        place = Place(
            f"{sftp.url}/{uuid4().hex[:8]}",
            without(sftp.options, "known_hosts", host_key_fingerprint=accepted),
        )
        Destination(place.url, place.options).put(NAME, DATA)
        assert Place(place.url, sftp.options).files() == {NAME: DATA}
    place.url = f"{sftp.url}/{uuid4().hex[:8]}"
    place.options["host_key_fingerprint"] = wrong
    with pytest.raises(DestinationError, match="another host key") as raised:
        Destination(place.url, place.options).put(NAME, DATA)
    assert not raised.value.transient
    assert right in str(raised.value)


@pytest.mark.servers
def test_a_fingerprint_does_not_let_in_the_known_hosts_of_the_user(
    sftp: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(Path(sftp.options["known_hosts"]).read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    options = without(
        sftp.options, "known_hosts", host_key_fingerprint=fingerprint(keys_of(sftp) / "user.pub")
    )
    with pytest.raises(DestinationError, match="another host key"):
        Destination(f"{sftp.url}/{uuid4().hex[:8]}", options).put(NAME, DATA)


SFTP = f"sftp://esr:{SECRET}@127.0.0.1:9/in"
KEY = "SHA256:" + "a" * 43


@pytest.mark.parametrize(
    ("url", "options", "part"),
    [
        (SFTP, {"known_hosts": "/no/such/file"}, "'/no/such/file' cannot be read"),
        (SFTP, {"known_hosts": 5}, "known_hosts"),
        (SFTP, {"known_hosts": "/dev/null", "host_key_fingerprint": KEY}, "one of them"),
        (SFTP, {"host_key_fingerprint": "MD5:00:11"}, "host_key_fingerprint"),
        (SFTP, {"host_key_fingerprint": []}, "host_key_fingerprint"),
        (SFTP, {"host_key_fingerprint": KEY, "client_keys": 5}, "client_keys"),
        (SFTP, {"host_key_fingerprint": KEY, "client_keys": ["/no/such/key"]}, "/no/such/key"),
        (SFTP, {"host_key_fingerprint": KEY, "password": [SECRET]}, "password"),
        (SFTP, {"host_key_fingerprint": KEY, "passwort": SECRET}, "passwort"),
        (SFTP, {"host_key_fingerprint": KEY, "host": "elsewhere"}, "host"),
        (SFTP, {"host_key_fingerprint": KEY, "keepalive_interval": [1]}, "'list' and 'int'"),
        (f"sftp://esr@127.0.0.1:9/in?password={SECRET}", {"host_key_fingerprint": KEY}, "query"),
        (f"s3://AKIA:{SECRET}@esr/in", {}, "key and secret"),
        (f"s3://AKIA:{SECRET}/x@esr/in", {}, "key and secret"),
        (f"s3://esr/in?secret={SECRET}", {}, "query"),
        ("s3://esr/in", {"secret": 5}, "secret"),
        ("s3://esr/in", {"client_kwargs": SECRET}, "client_kwargs"),
        ("s3://esr/in", {"endpoint": "https://x"}, "endpoint"),
        ("s3://esr/in", {"endpoint_url": "http://s3.example.org"}, "TLS"),
        ("s3://esr/in", {"client_kwargs": {"endpoint_url": "http://s3.example.org"}}, "TLS"),
        ("s3://esr/in", {"client_kwargs": {"verify": False}}, "verify"),
        ("s3://esr/in", {"use_ssl": False}, "TLS"),
        ("file:///srv/esr", {"key": SECRET}, "key"),
        ("ftp://esr:x@127.0.0.1/in", {}, "'ftp'"),
        (f"simplecache::sftp://esr:{SECRET}@127.0.0.1:9/in", {}, "sftp://"),
        ("memory://x", {}, "'memory'"),
    ],
)
def test_a_destination_that_is_unsafe_or_malformed_is_refused_before_any_contact(
    url: str, options: dict[str, Any], part: str
) -> None:
    with pytest.raises(UsageError) as raised:
        Destination(url, options)
    message = str(raised.value)
    assert part in message
    assert "TIS_SYNC_EXPORT_" in message
    assert "\n" not in message
    assert SECRET not in message
    assert "AKIA" not in message
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (SFTP, {"host_key_fingerprint": KEY, "connect_timeout": 5, "agent_path": None}),
        ("ssh://esr@127.0.0.1:9/in", {"host_key_fingerprint": [KEY]}),
        ("s3://esr/in", {"endpoint_url": "https://s3.example.org", "key": "k", "secret": "s"}),
        ("s3://esr/in", {"endpoint_url": "http://localhost:8333", "profile": "esr"}),
        ("s3a://esr", {"client_kwargs": {"region_name": "eu-west-2", "verify": "/etc/ca.pem"}}),
        ("/srv/esr", {}),
        ("file:///srv/esr", {"auto_mkdir": True}),
    ],
)
def test_a_safe_destination_is_accepted(url: str, options: dict[str, Any]) -> None:
    Destination(url, options)


@pytest.mark.parametrize("command", [("work",), ("serve", "--port", "0"), ("night",),
                                     ("esr", "export", "WES")])  # fmt: skip
def test_no_process_that_works_starts_with_an_unsafe_destination(
    program: Program, command: tuple[str, ...]
) -> None:
    settings = {"export_url": SFTP, "export_options": json.dumps({"password": SECRET})}
    expect_one_line(
        program(*command, **settings), 2, "TIS_SYNC_EXPORT_OPTIONS", "known_hosts", "ssh-keyscan"
    )
    assert SECRET not in program("doctor", **settings).out


def test_the_doctor_reports_an_unsafe_destination(tmp_path: Path) -> None:
    found = check(Settings(home=tmp_path, export_url=SFTP))
    assert (found.state, "known_hosts" in found.message) == ("missing", True)


def check(settings: Settings, *, writes: bool = True) -> Finding:
    """What the doctor finds about the destination."""
    s = Services(settings)
    (found,) = examine(s, {"export destination"}, writes=writes)
    s.close()
    return found


def settings_of(place: Place, home: Path, **others: Any) -> Settings:
    return Settings(home=home, export_url=place.url, export_options=place.options, **others)


def everything(place: Place) -> list[str]:
    """The paths of all files of a destination, hidden ones too."""
    import fsspec

    system, folder = fsspec.core.url_to_fs(place.url, skip_instance_cache=True, **place.options)
    if not system.exists(folder):
        return []
    # SeaweedFS keeps the folder of a file that was removed, as a name that ends in a slash.
    return [path for path in system.ls(folder, detail=False) if not path.endswith("/")]


@pytest.mark.servers
@pytest.mark.parametrize("writes", [True, False])
def test_without_a_folder_for_probes_the_check_only_reads(
    place: Place, written: list[str], tmp_path: Path, writes: bool
) -> None:
    found = check(settings_of(place, tmp_path / "home"), writes=writes)
    assert found.state == "ok", found
    assert "TIS_SYNC_EXPORT_PROBE_FOLDER" in found.message
    assert written == everything(place) == []
    Destination(place.url, place.options).put(NAME, DATA)
    found = check(settings_of(place, tmp_path / "home"), writes=writes)
    assert found.state == "ok", found
    assert [name.rsplit("/", 1)[-1] for name in everything(place)] == [NAME]


def path_of(place: Place) -> str:
    """The path in the URL of a destination: /folder, or bucket/folder."""
    rest = place.url.partition("://")[2]
    return rest if place.url.startswith("s3") else "/" + rest.partition("/")[2]


def recorded(method: Callable[..., Any], paths: list[str]) -> Callable[..., Any]:
    """A method of a file system that also notes the path that it is called with."""

    def call(self: Any, path: str, *rest: Any, **named: Any) -> Any:
        paths.append(path)
        return method(self, path, *rest, **named)

    async def call_later(self: Any, path: str, *rest: Any, **named: Any) -> Any:
        return await call(self, path, *rest, **named)

    return call_later if inspect.iscoroutinefunction(method) else call


@pytest.fixture
def written(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths to which anything is written at the destination, or which are removed or made."""
    import fsspec

    paths: list[str] = []
    kind = type(fsspec.core.url_to_fs(place.url, **place.options)[0])
    for name in ("pipe_file", "rm_file", "makedirs", "mkdir"):
        own = f"_{name}" if hasattr(kind, f"_{name}") else name
        monkeypatch.setattr(kind, own, recorded(getattr(kind, own), paths))
    kind.clear_instance_cache()  # an instance keeps the methods that its class had
    yield paths
    kind.clear_instance_cache()


@pytest.mark.servers
def test_a_probe_is_written_into_its_own_folder_only_and_removed(
    place: Place, written: list[str], tmp_path: Path
) -> None:
    probes = Place(place.url + "_probes", place.options)
    if place.url.startswith("s3"):  # whoever lists the prefix "x" also sees "x_probes"
        probes.url = f"s3://esr/probes/{uuid4().hex[:8]}"
    settings = settings_of(place, tmp_path / "home", export_probe_folder=path_of(probes))
    for _ in range(2):
        found = check(settings)
        assert (found.state, "accepts files" in found.message) == ("ok", True), found
    # Two checks at once do not remove each other's probe.
    assert len({path for path in written if path.endswith(".part")}) == 2
    assert all(path.startswith(path_of(probes)) for path in written), written
    assert everything(place) == everything(probes) == []
    written.clear()
    assert check(settings, writes=False).state == "ok"
    assert written == []


@pytest.mark.parametrize(
    ("url", "probes"),
    [
        ("file:///srv/esr/in", "/srv/esr/in"),
        ("file:///srv/esr/in", "/srv/esr/in/probes"),
        ("file:///srv/esr/in", "/srv/esr/x/../in/"),
        ("file:///srv/esr/in", "probes"),
        ("sftp://u@127.0.0.1:9/in", "/in/"),
        ("sftp://u@127.0.0.1:9/in", "//in/probes"),
        ("sftp://u@127.0.0.1:9", "/probes"),
        ("s3://esr/in", "esr/in/probes"),
        ("s3://esr/in", "/esr/in"),
        ("s3://esr/in", "esr/in-probes"),
        ("s3://esr", "esr/probes"),
    ],
)
def test_a_folder_for_probes_that_the_partner_may_collect_from_is_refused(
    url: str, probes: str
) -> None:
    options: dict[str, Any] = {"host_key_fingerprint": KEY} if url.startswith("sftp") else {}
    with pytest.raises(UsageError, match="TIS_SYNC_EXPORT_PROBE_FOLDER"):
        Destination(url, options, probes)


def test_a_link_to_the_folder_of_the_partner_is_no_folder_for_probes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "probes").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="TIS_SYNC_EXPORT_PROBE_FOLDER"):
        Destination(f"file://{tmp_path}/in", {}, f"{tmp_path}/probes")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("change", "part"),
    [({"secret": "wrong"}, "refuses access"), ({"key": "reader"}, "refuses access")],
)
def test_the_check_finds_wrong_keys(s3: Place, change: dict[str, Any], part: str) -> None:
    destination = Destination(s3.url, s3.options | change, "esr/probes")
    with pytest.raises(TisSyncError, match=part):
        destination.probe()


@pytest.mark.servers
def test_the_check_finds_a_bucket_that_does_not_exist(s3: Place) -> None:
    with pytest.raises(DestinationError, match="refuses access"):
        Destination("s3://nosuch/in", s3.options).probe(writes=False)


@pytest.mark.servers
def test_pages_and_api_calls_that_only_read_write_nothing(
    place: Place, written: list[str], tmp_path: Path
) -> None:
    folder = "probes/x" if place.url.startswith("s3") else f"{tmp_path}/probes"
    settings = settings_of(place, tmp_path / "home", export_probe_folder=folder)
    with working(settings) as s, console(s) as call:
        found = {f["name"]: f for f in call("GET", "/api/v1/doctor").json}
        assert found["export destination"]["state"] == "ok", found["export destination"]
        assert call("GET", "/health").status == 200
        assert written == []
        (found_by_doctor,) = examine(s, {"export destination"})
        assert "accepts files" in found_by_doctor.message
        assert written
