"""E10, 2021-08-17: the database hung, and a message that had been acknowledged was lost."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.brokers import Broker
from tests.consuming import EXTERNAL_RECORD, commands_by_message, consumer, consuming, received
from tests.crash.program import tis_sync
from tests.running import working
from tests.waiting import eventually
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.topology import APP_COMMANDS, RECORDS
from tis_sync.esr.records import find_records
from tis_sync.settings.model import Settings

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
        with consuming(s):
            eventually(lambda: last_contact(s.state))
            wire.cut()
            broker.send(RECORDS, EXTERNAL_RECORD)
            broker.send(APP_COMMANDS, {"deanery": "WES"})
            eventually(lambda: broker.count(RECORDS) == broker.count(APP_COMMANDS) == 0)
        # The consumer was stopped while it held them: the broker has them again.
        eventually(lambda: broker.count(RECORDS) == broker.count(APP_COMMANDS) == 1)
        wire.join()
        assert received(s) == 0
    with consumer(settings) as s:
        eventually(lambda: received(s) == 1)
        eventually(lambda: len(commands_by_message(s)) == 1)
        assert dead_letters.waiting(s.state) == []
        # The database hangs for a while, and answers again while messages are held.
        wire.cut()
        broker.send(RECORDS, EXTERNAL_RECORD | {"placementId": 2})
        eventually(lambda: broker.count(RECORDS) == 0)
        wire.join()
        eventually(lambda: received(s) == 2)
        eventually(lambda: broker.count(RECORDS) == 0)
    wire.close()


@pytest.mark.parametrize("point", ["store-record:before", "store-record:after"])
def test_a_consumer_killed_while_handling_a_message_loses_nothing_and_stores_it_once(
    point: str,
    broker: Broker,
    embedded_tcs: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("TIS_SYNC_BROKER_URL", broker.url)
    settings = Settings(home=home, tcs_url=embedded_tcs.url, broker_url=broker.url)
    with consumer(settings):
        pass
    broker.send(RECORDS, EXTERNAL_RECORD, EXTERNAL_RECORD | {"placementId": 2})
    killed = tis_sync(home, "esr", "listen", kill=(point, 1))
    assert killed.returncode == -9, killed.stderr
    with consumer(settings) as s:
        eventually(lambda: received(s) == 2)
        eventually(lambda: broker.count(RECORDS) == 0)
        placements = sorted(record.placement_id for record in find_records(s.state))
        assert placements == [2, 900001]
        assert dead_letters.waiting(s.state) == []
