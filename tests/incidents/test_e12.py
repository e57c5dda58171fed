"""E12, 2023-08-10 and twice more: thousands of dead letters were only found days later."""

import time
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.brokers import Broker
from tests.cli.conftest import Program, program
from tests.consuming import EXTERNAL_RECORD, commands_by_message, consumer, received
from tests.running import working
from tests.waiting import eventually
from tests.wire import Wire
from tests.world import World
from tis_sync.alarms.catalogue import DEAD_LETTERS
from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.monitor import check_messages
from tis_sync.esr.messaging.topology import APP_COMMANDS, DEAD_LETTER_QUEUE, RECORDS
from tis_sync.settings.model import Settings

__all__ = ["program"]
pytestmark = pytest.mark.servers
MESSAGES = 2358  # of the third time


def test_thousands_of_messages_wait_for_an_unreachable_database_and_none_becomes_a_dead_letter(
    broker: Broker, embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    url = make_url(postgresql)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, state_url=through, broker_url=broker.url,
    )  # fmt: skip
    with consumer(settings) as s:
        wire.cut()
        broker.send(
            RECORDS, *(EXTERNAL_RECORD | {"placementId": n} for n in range(1, MESSAGES + 1))
        )
        time.sleep(10)  # longer than the first waits between two retries
        wire.join()
        started = time.monotonic()
        eventually(lambda: received(s) == MESSAGES, 240)
        print(f"{MESSAGES / (time.monotonic() - started):.0f} messages a second")
        assert dead_letters.waiting(s.state) == []
        assert broker.count(DEAD_LETTER_QUEUE) == 0
    wire.close()


def test_dead_letters_open_an_alarm_at_once_are_listed_with_their_reason_and_sent_back(
    broker: Broker, embedded_tcs: World, program: Program, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    given = {"home": tmp_path, "tcs_url": embedded_tcs.url, "broker_url": broker.url}
    with consumer(settings):
        pass
    broker.send(APP_COMMANDS, *({"deanery": code} for code in DEANERIES))
    assert broker.reject(APP_COMMANDS) == len(DEANERIES)  # by a consumer that fails each time
    eventually(lambda: broker.count(DEAD_LETTER_QUEUE) == len(DEANERIES))
    waiting = program("esr", "dead", "list", **given)
    assert "13 more are waiting at the broker" in waiting.err
    with consumer(settings) as s:
        eventually(lambda: len(dead_letters.waiting(s.state)) == len(DEANERIES))
        (alarm,) = s.alarms.open_alarms()
        assert (alarm.kind, alarm.subject) == (DEAD_LETTERS, APP_COMMANDS)
        assert "delivered too often" in alarm.text
    listed = program("esr", "dead", "list", **given)
    assert listed.out.count("delivered too often") == len(DEANERIES)
    assert "In total 0 dead commands, 13 dead letters." in listed.out
    first = program("esr", "dead", "list", "--json", **given).json["dead_letters"][0]
    assert first["body"] in {f'{{"deanery": "{code}"}}' for code in DEANERIES}
    one = program("esr", "dead", "retry", first["id"][:8], **given)
    assert "Sent back: 1 dead letter." in one.out
    with consumer(settings) as s:
        eventually(lambda: len(commands_by_message(s)) == 1)
        check_messages(s)
        assert [alarm.kind for alarm in s.alarms.open_alarms()] == [DEAD_LETTERS]
    rest = program("esr", "dead", "retry", "--all", **given)
    assert "Sent back: 12 dead letters." in rest.out
    with consumer(settings) as s:
        eventually(lambda: len(commands_by_message(s)) == len(DEANERIES))
        assert {command.deanery for command in commands_by_message(s)} == set(DEANERIES)
    with working(settings) as s:
        check_messages(s)
        assert DEAD_LETTERS not in {alarm.kind for alarm in s.alarms.open_alarms()}
    assert "Nothing is dead." in program("esr", "dead", "retry", "--all", **given).out
    unknown = program("esr", "dead", "retry", first["id"][:8], **given)
    assert unknown.code == 2
