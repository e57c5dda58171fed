"""E10, 2021-08-17: the database hung, and a message that had been acknowledged was lost."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.brokers import Broker, eventually
from tests.crash.program import tis_sync
from tests.listening import ELSEWHERE, by_message, listener, taken
from tests.running import working
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.broker import letters
from tis_sync.esr.broker.listen import last_heard, listening
from tis_sync.esr.broker.topology import APP_COMMANDS, RECORDS
from tis_sync.esr.records import records
from tis_sync.settings import Settings

pytestmark = pytest.mark.servers


def test_nothing_is_acknowledged_before_it_is_stored(
    broker: Broker, embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    url = make_url(postgresql)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    search = f"embedded:{tmp_path / 'search'}"
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, state_url=through, search_url=search,
        broker_url=broker.url,
    )  # fmt: skip
    with working(settings) as s:
        with listening(s):
            eventually(lambda: last_heard(s.state))
            wire.cut()
            broker.send(RECORDS, ELSEWHERE)
            broker.send(APP_COMMANDS, {"deanery": "WES"})
            eventually(lambda: broker.count(RECORDS) == broker.count(APP_COMMANDS) == 0)
        # The listener was told to stop while it held them: they are the broker's again.
        eventually(lambda: broker.count(RECORDS) == broker.count(APP_COMMANDS) == 1)
        wire.join()
        assert taken(s) == 0
    with listener(settings) as s:
        eventually(lambda: taken(s) == 1)
        eventually(lambda: len(by_message(s)) == 1)
        assert letters.waiting(s.state) == []
        # A database that hangs for a while, and comes back while messages are held.
        wire.cut()
        broker.send(RECORDS, ELSEWHERE | {"placementId": 2})
        eventually(lambda: broker.count(RECORDS) == 0)
        wire.join()
        eventually(lambda: taken(s) == 2)
        eventually(lambda: broker.count(RECORDS) == 0)
    wire.close()


@pytest.mark.parametrize("point", ["take-record:before", "take-record:after"])
def test_a_listener_killed_over_a_message_loses_nothing_and_takes_it_once(
    point: str,
    broker: Broker,
    embedded_tcs: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("TIS_SYNC_BROKER_URL", broker.url)
    settings = Settings(home=home, tcs_url=embedded_tcs.url, broker_url=broker.url)
    with listener(settings):
        pass
    broker.send(RECORDS, ELSEWHERE, ELSEWHERE | {"placementId": 2})
    killed = tis_sync(home, "esr", "listen", kill=(point, 1))
    assert killed.returncode == -9, killed.stderr
    with listener(settings) as s:
        eventually(lambda: taken(s) == 2)
        eventually(lambda: broker.count(RECORDS) == 0)
        found = records(s.state)
        assert sorted(record.placement_id for record in found) == [2, 900001]
        assert letters.waiting(s.state) == []
