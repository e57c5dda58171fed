"""E2, 2019-05-21: a failed connection was not retried, and a deanery's applicants were lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from tests.conftest import TODAY
from tests.destinations import Place, sftp_server
from tests.exporting import check_consistency, export, wait_until_ended
from tests.running import working
from tests.starters import starters
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.workflow import start_commands
from tis_sync.runs.run import Trigger
from tis_sync.settings.model import Settings


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Place]:
    yield from sftp_server(tmp_path / "sftp")


@pytest.mark.servers
def test_a_connection_that_fails_is_retried_until_it_works(
    sftp: Place, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(2))
    parts = urlsplit(sftp.url)
    wire = Wire("127.0.0.1", parts.port or 22)
    known_hosts = Path(sftp.options["known_hosts"])
    known_hosts.write_text(known_hosts.read_text().replace(f":{parts.port}", f":{wire.port}"))
    settings = Settings(
        home=tmp_path / "home", tcs_url=embedded_tcs.url,
        export_url=sftp.url.replace(f":{parts.port}", f":{wire.port}"),
        export_options=sftp.options, esr_retry_seconds=(0.3,) * 100,
    )  # fmt: skip
    wire.cut()
    with working(settings) as s:
        commands = Commands(s.state)
        command = commands.request(
            file_type=FileType.APP, deanery="WES", day=TODAY, trigger=Trigger.MANUAL,
            requested_by="test", now=s.clock(),
        )  # fmt: skip
        start_commands(s, [command])
        while commands.get(command.id).attempts < 3:
            time.sleep(0.05)
        assert "does not answer" in str(commands.get(command.id).error)
        wire.join()
        (done,) = wait_until_ended(s, [command.id])
        assert done.state == CommandState.DONE
        check_consistency(s, embedded_tcs)
    assert sftp.folder is not None
    assert [path.name for path in sftp.folder.iterdir()] == [done.file]
    wire.close()


@pytest.mark.servers
def test_a_permanent_failure_is_not_retried(
    sftp: Place, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(2))
    options = sftp.options | {"client_keys": [str(tmp_path / "sftp" / "host")]}
    settings = Settings(
        home=tmp_path / "home", tcs_url=embedded_tcs.url, export_url=sftp.url,
        export_options=options, esr_retry_seconds=(0.3,) * 100,
    )  # fmt: skip
    with working(settings) as s:
        (dead,) = export(s, "WES")
        assert (dead.state, dead.attempts) == (CommandState.DEAD, 1)


@pytest.mark.servers
def test_an_export_outlasts_the_absence_of_tcs(mariadb_tcs: World, tmp_path: Path) -> None:
    mariadb_tcs.fill(starters(2))
    url = make_url(mariadb_tcs.url)
    wire = Wire(url.host or "127.0.0.1", url.port or 3306)
    wired = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    settings = Settings(
        home=tmp_path / "home", tcs_url=SecretStr(wired), esr_retry_seconds=(0.1,) * 100
    )
    with working(settings) as s:
        s.tcs()
        wire.cut()
        commands = Commands(s.state)
        command = commands.request(
            file_type=FileType.APP, deanery="WES", day=TODAY, trigger=Trigger.MANUAL,
            requested_by="test", now=s.clock(),
        )  # fmt: skip
        start_commands(s, [command])
        while commands.get(command.id).error is None:
            time.sleep(0.05)
        assert "TCS at" in str(commands.get(command.id).error)
        wire.join()
        (done,) = wait_until_ended(s, [command.id])
        assert done.state == CommandState.DONE
        check_consistency(s, mariadb_tcs)
    wire.close()
