"""E7, 2021-06: TCS was away when the export was reported; users saw a question mark for ever."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests.conftest import TODAY
from tests.exporting import check_books, ended, generate, states
from tests.running import working
from tests.starters import starters
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP
from tis_sync.esr.destination import Destination
from tis_sync.esr.files import files
from tis_sync.esr.plan import EXPORTED, TO_EXPORT
from tis_sync.esr.workflows import start
from tis_sync.settings import Settings


@pytest.mark.servers
def test_tcs_that_goes_away_after_the_file_is_written_is_told_when_it_is_back_and_once(
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
        asked = Commands(s.state).ask(
            file_type=APP, deanery="WES", day=TODAY, trigger="manual", who="test", now=s.clock()
        )
        start([asked])
        assert _tried(s, asked.id, 3).error is not None
        monkeypatch.setattr(Destination, "put", put)
        assert states(s) == {TO_EXPORT: 3}
        assert [file.written_at is not None for file in files(s.state)] == [True]
        wire.join()
        (done,) = ended(s, [asked.id])
        assert done.state == "done"
        assert states(s) == {EXPORTED: 3}
        check_books(s, mariadb_tcs)
    wire.close()


def _tried(s: Any, command_id: str, times: int) -> Any:
    import time

    deadline = time.monotonic() + 60
    while (command := Commands(s.state).get(command_id)).attempts < times:
        assert time.monotonic() < deadline, command
        time.sleep(0.05)
    return command
