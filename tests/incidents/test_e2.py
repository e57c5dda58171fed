"""E2, 2019-05-21: one failed connection, no retry; one deanery's applicants were not received."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import TODAY
from tests.destinations import Place, sftp_server
from tests.exporting import check_books, ended, export
from tests.running import working
from tests.starters import starters
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP
from tis_sync.esr.workflows import start
from tis_sync.settings import Settings


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Place]:
    yield from sftp_server(tmp_path / "sftp")


@pytest.mark.servers
def test_a_connection_that_fails_is_tried_again_until_it_works(
    sftp: Place, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(2))
    parts = urlsplit(sftp.url)
    wire = Wire("127.0.0.1", parts.port or 22)
    known = Path(sftp.options["known_hosts"])
    known.write_text(known.read_text().replace(f":{parts.port}", f":{wire.port}"))
    settings = Settings(
        home=tmp_path / "home", tcs_url=embedded_tcs.url,
        export_url=sftp.url.replace(f":{parts.port}", f":{wire.port}"),
        export_options=sftp.options, esr_retry_seconds=(0.3,) * 100,
    )  # fmt: skip
    wire.cut()
    with working(settings) as s:
        commands = Commands(s.state)
        asked = commands.ask(
            file_type=APP, deanery="WES", day=TODAY, trigger="manual", who="test", now=s.clock()
        )
        start([asked])
        import time

        while commands.get(asked.id).attempts < 3:
            time.sleep(0.05)
        assert "does not answer" in str(commands.get(asked.id).error)
        wire.join()
        (done,) = ended(s, [asked.id])
        assert done.state == "done"
        check_books(s, embedded_tcs)
    assert sftp.folder is not None
    assert [path.name for path in sftp.folder.iterdir()] == [done.file]
    wire.close()


@pytest.mark.servers
def test_what_cannot_pass_is_not_tried_again(
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
        assert (dead.state, dead.attempts) == ("dead", 1)
