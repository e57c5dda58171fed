"""E12, 2023-08-10 and twice more: thousands of dead letters, found days later."""

import time
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.brokers import Broker, eventually
from tests.cli.conftest import Program, program
from tests.listening import ELSEWHERE, by_message, listener, taken
from tests.running import working
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.broker import letters
from tis_sync.esr.broker.topology import APP_COMMANDS, LETTERS, RECORDS
from tis_sync.esr.broker.watch import watch
from tis_sync.esr.deaneries import DEANERIES
from tis_sync.settings import Settings

__all__ = ["program"]
pytestmark = pytest.mark.servers
MESSAGES = 2358  # of the third time


def test_thousands_of_messages_wait_for_a_dependency_that_is_away_and_none_dies(
    broker: Broker, embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    url = make_url(postgresql)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, state_url=through, broker_url=broker.url,
    )  # fmt: skip
    with listener(settings) as s:
        wire.cut()
        broker.send(RECORDS, *(ELSEWHERE | {"placementId": n} for n in range(1, MESSAGES + 1)))
        time.sleep(10)  # longer than a message is tried again at first
        wire.join()
        started = time.monotonic()
        eventually(lambda: taken(s) == MESSAGES, 240)
        print(f"{MESSAGES / (time.monotonic() - started):.0f} messages a second")
        assert letters.waiting(s.state) == []
        assert broker.count(LETTERS) == 0
    wire.close()


def test_dead_letters_alarm_at_once_are_listed_with_their_reason_and_sent_again_one_or_all(
    broker: Broker, embedded_tcs: World, program: Program, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    given = {"home": tmp_path, "tcs_url": embedded_tcs.url, "broker_url": broker.url}
    with listener(settings):
        pass
    broker.send(APP_COMMANDS, *({"deanery": code} for code in DEANERIES))
    assert broker.refuse(APP_COMMANDS) == len(DEANERIES)  # by somebody who fails each time
    eventually(lambda: broker.count(LETTERS) == len(DEANERIES))
    waiting = program("esr", "dead", "list", **given)
    assert "13 more wait at the broker" in waiting.err
    with listener(settings) as s:
        eventually(lambda: len(letters.waiting(s.state)) == len(DEANERIES))
        (alarm,) = s.alarms.open()
        assert (alarm.kind, alarm.subject) == ("dead letters", APP_COMMANDS)
        assert "delivered too often" in alarm.text
    listed = program("esr", "dead", "list", **given)
    assert listed.out.count("delivered too often") == len(DEANERIES)
    assert "In all 0 dead commands, 13 dead letters." in listed.out
    first = program("esr", "dead", "list", "--json", **given).json["letters"][0]
    assert first["body"] in {f'{{"deanery": "{code}"}}' for code in DEANERIES}
    one = program("esr", "dead", "retry", first["id"][:8], **given)
    assert "Sent again: 1 dead letter." in one.out
    with listener(settings) as s:
        eventually(lambda: len(by_message(s)) == 1)
        watch(s)
        assert [alarm.kind for alarm in s.alarms.open()] == ["dead letters"]
    rest = program("esr", "dead", "retry", "--all", **given)
    assert "Sent again: 12 dead letters." in rest.out
    with listener(settings) as s:
        eventually(lambda: len(by_message(s)) == len(DEANERIES))
        assert {command.deanery for command in by_message(s)} == set(DEANERIES)
    with working(settings) as s:
        watch(s)
        assert [a.kind for a in s.alarms.open() if a.kind == "dead letters"] == []
    assert "Nothing is dead." in program("esr", "dead", "retry", "--all", **given).out
    unknown = program("esr", "dead", "retry", first["id"][:8], **given)
    assert unknown.code == 2
