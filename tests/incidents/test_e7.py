"""E7, 2021-06: TCS was down when the export was reported, so users saw a question mark for ever."""

import time
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.conftest import TODAY
from tests.exporting import check_consistency, generate, states, wait_until_ended
from tests.running import working
from tests.starters import starters
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.export.workflow import start_commands
from tis_sync.esr.files.destination import Destination
from tis_sync.esr.files.store import find_files
from tis_sync.esr.records import RecordState
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings


@pytest.mark.servers
def test_an_export_is_reported_once_when_tcs_is_back_after_an_outage(
    mariadb_tcs: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mariadb_tcs.fill(starters(3))
    url = make_url(mariadb_tcs.url)
    wire = Wire(url.host or "127.0.0.1", url.port or 3306)
    settings = Settings(
        home=tmp_path,
        tcs_url=url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False),
        esr_retry_seconds=(0.3,) * 100,
    )
    put = Destination.put

    def put_and_cut(self: Destination, name: str, data: bytes) -> None:
        put(self, name, data)
        wire.cut()

    with working(settings) as s:
        generate(s)
        monkeypatch.setattr(Destination, "put", put_and_cut)
        command = Commands(s.state).request(
            file_type=FileType.APP, deanery="WES", day=TODAY, trigger=Trigger.MANUAL,
            requested_by="test", now=s.clock(),
        )  # fmt: skip
        start_commands(s, [command])
        assert wait_for_attempts(s, command.id, 3).error is not None
        monkeypatch.setattr(Destination, "put", put)
        assert states(s) == {RecordState.TO_EXPORT: 3}
        assert [file.written_at is not None for file in find_files(s.state)] == [True]
        wire.join()
        (done,) = wait_until_ended(s, [command.id])
        assert done.state == CommandState.DONE
        assert states(s) == {RecordState.EXPORTED: 3}
        check_consistency(s, mariadb_tcs)
    wire.close()


def wait_for_attempts(s: Services, command_id: str, attempts: int) -> Command:
    deadline = time.monotonic() + 60
    while (command := Commands(s.state).get(command_id)).attempts < attempts:
        assert time.monotonic() < deadline, command
        time.sleep(0.05)
    return command
