"""Dead letters with a real RabbitMQ: one that cannot be sent back, and one that is discarded."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.brokers import Broker
from tests.cli.conftest import Program, program
from tests.consuming import commands_by_message, consumer
from tests.waiting import eventually
from tests.web.conftest import console
from tests.world import World
from tis_sync import actions, audit
from tis_sync.audit import Actor, Channel
from tis_sync.errors import NotFoundError, UnreachableError
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.monitor import check_messages
from tis_sync.esr.messaging.topology import APP_COMMANDS, DEAD_LETTER_QUEUE
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t

__all__ = ["program"]

pytestmark = pytest.mark.servers
ACTOR = Actor("test", Channel.COMMAND_LINE)


@pytest.fixture
def settings(broker: Broker, embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)


def die(s: Services, broker: Broker, queue: str, body: object, name: str) -> None:
    """Have a message die in a queue."""
    known = len(dead_letters.waiting(s.state))
    death = {"x-died-in": queue, "x-reason": "r", "x-died-at": f"2026-01-01T00:00:{known:02}+00:00"}
    broker.send(DEAD_LETTER_QUEUE, body, ids=[name], headers=death)
    eventually(lambda: len(dead_letters.waiting(s.state)) == known + 1)


def waiting(s: Services) -> list[str | None]:
    return [letter.message_id for letter in dead_letters.waiting(s.state)]


def test_a_dead_letter_that_its_queue_refuses_does_not_hold_back_the_others(
    settings: Settings, broker: Broker
) -> None:
    with consumer(settings) as s:
        die(s, broker, "gone", b"first", "first")
        die(s, broker, "gone too", b"second", "second")
        die(s, broker, APP_COMMANDS, {"deanery": "WES"}, "third")
        refused = [letter.id[:8] for letter in dead_letters.waiting(s.state)[:2]]
        assert waiting(s) == ["first", "second", "third"]
        with pytest.raises(UnreachableError) as error:
            actions.retry_dead_letters(s, ACTOR)
        assert all(name in str(error.value) for name in [*refused, "gone, gone too"])
        assert "1 was sent back" in str(error.value)
        assert waiting(s) == ["first", "second"]
        eventually(lambda: len(commands_by_message(s)) == 1)


def test_a_refused_dead_letter_does_not_hold_back_dead_commands(
    settings: Settings, broker: Broker, program: Program, embedded_tcs: World, tmp_path: Path
) -> None:
    given = {"home": tmp_path, "tcs_url": embedded_tcs.url, "broker_url": broker.url}
    with consumer(settings) as s:
        die(s, broker, "gone", b"first", "first")
    (tmp_path / "file").write_text("")
    url = f"file://{tmp_path}/file"
    dead = program("esr", "export", "WES", export_url=url, esr_retry_seconds="[]", **given)
    assert dead.code == 1
    (tmp_path / "file").unlink()
    retried = program("esr", "dead", "retry", "--all", export_url=url, **given)
    assert retried.code == 1
    assert "gone is missing or full" in retried.err
    listed = program("esr", "dead", "list", "--json", **given).json
    assert (len(listed["commands"]), len(listed["dead_letters"])) == (0, 1)


def test_a_discarded_dead_letter_is_gone_with_its_body_and_its_alarm_closes(
    settings: Settings, broker: Broker, program: Program, embedded_tcs: World, tmp_path: Path
) -> None:
    given = {"home": tmp_path, "tcs_url": embedded_tcs.url, "broker_url": broker.url}
    with consumer(settings) as s:
        for name in ("one", "two", "three", "four"):
            die(s, broker, "gone", f"secret {name}".encode(), name)
        one, two, three, four = (letter.id for letter in dead_letters.waiting(s.state))
        done = program("esr", "dead", "discard", one[:8], two, **given)
        assert "Discarded: 2 dead letters." in done.out
        with console(s) as call:
            assert f"/sync/esr/dead-letters/{three}/discard" in call("GET", "/esr").text
            assert call("POST", f"/esr/dead-letters/{three}/discard", form={}).status == 303
            assert call("POST", f"/api/v1/esr/dead-letters/{four}/discard").status == 204
            assert call("POST", f"/api/v1/esr/dead-letters/{four}/discard").status == 404
        with s.state.read() as connection:
            assert connection.execute(sa.select(t.dead_letter)).all() == []
        check_messages(s)
        assert s.alarms.open_alarms() == []
        lines = [line for line in audit.entries(s.state) if line.action == "discard dead letter"]
        outcomes = [line.outcome for line in lines]
        assert [outcome == audit.DONE for outcome in outcomes] == [False, True, True, True]
        assert one[:8] in lines[-1].subject
        assert '"gone: one"' in lines[-1].detail
        assert "secret" not in lines[-1].detail
        with pytest.raises(NotFoundError):
            actions.discard_dead_letters(s, ACTOR, [one])
        unknown = program("esr", "dead", "discard", one[:8], **given)
        assert unknown.code == 2
