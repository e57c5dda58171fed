"""The broker killed, emptied, and other than declared: named within a minute, nothing lost."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.brokers import SETTLED_SECONDS, Broker, eventually
from tests.cli.conftest import Program, program
from tests.exporting import export, generate
from tests.listening import ELSEWHERE, by_message, listener, taken
from tests.running import working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.broker import letters, outbox
from tis_sync.esr.broker.connect import connected
from tis_sync.esr.broker.listen import declare, last_heard
from tis_sync.esr.broker.look import Seen, look
from tis_sync.esr.broker.topology import (
    APP_COMMANDS,
    LETTERS,
    RECORD_EXPORTED,
    RECORDS,
    topology,
)
from tis_sync.esr.files import files
from tis_sync.runs.services import Services
from tis_sync.settings import Settings

__all__ = ["program"]
pytestmark = pytest.mark.servers
MINUTE = 60.0


@pytest.fixture
def settings(broker: Broker, embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url,
        broker_api_url=broker.api_url, esr_retry_seconds=(1.0,) * 5,
    )  # fmt: skip


def set_up(settings: Settings) -> None:
    """Everything as declared; nobody listens."""

    async def act() -> None:
        async with connected(settings) as connection:
            assert await declare(connection, topology(settings)) == []

    asyncio.run(act())


def bad(settings: Settings) -> dict[str, Seen]:
    return {seen.name: seen for seen in asyncio.run(look(settings)) if seen.state != "ok"}


def alarms(s: Services, kind: str) -> dict[str, str]:
    return {alarm.subject: alarm.text for alarm in s.alarms.open() if alarm.kind == kind}


def within_a_minute(s: Services, kind: str, subject: str) -> float:
    seconds = eventually(lambda: subject in alarms(s, kind), MINUTE, s.alarms.open)
    print(f"{kind} {subject}: named after {seconds:.0f} s")
    return seconds


def test_all_that_can_differ_is_named_with_how_to_mend_it(
    settings: Settings, broker: Broker
) -> None:
    assert set(bad(settings)) >= {f"queue {RECORDS}", "exchange esr.exchange", "exchange esr.dlx"}
    assert {seen.state for seen in bad(settings).values()} == {"missing"}
    set_up(settings)
    assert bad(settings) == {}
    wanted = topology(settings)

    right = wanted.taken[RECORDS].arguments
    wrong: dict[str, dict[str, object]] = {
        "x-dead-letter-exchange": {k: v for k, v in right.items() if "dead-letter" not in k},
        "x-delivery-limit": right | {"x-delivery-limit": 1},
        "inequivalent": {},  # a classic queue, as whoever knows no better makes it
        "x-message-ttl": right | {"x-message-ttl": 1000},
    }
    for argument, arguments in wrong.items():
        broker.delete(RECORDS)
        broker.declare(RECORDS, arguments)
        found = bad(settings)[f"queue {RECORDS}"]
        assert found.state == "drifted"
        assert argument in found.said
        assert "delete it at the broker" in str(found.mend)
    broker.delete(RECORDS)
    set_up(settings)
    broker.node.api("DELETE", f"bindings/{broker.vhost}/e/esr.dlx/q/{LETTERS}/~")
    assert set(bad(settings)) == {f"binding of {LETTERS}"}
    set_up(settings)
    policy = {"pattern": "^esr\\.queue", "definition": {"message-ttl": 5}, "apply-to": "queues"}
    broker.node.api("PUT", f"policies/{broker.vhost}/short", policy)
    eventually(lambda: set(bad(settings)) == {
        f"policy on {queue.name}" for queue in wanted.taken.values()
    })  # fmt: skip
    assert "short overrides" in bad(settings)[f"policy on {RECORDS}"].said
    broker.node.api("DELETE", f"policies/{broker.vhost}/short")
    eventually(lambda: bad(settings) == {})


def test_names_of_the_sites_own_are_used_everywhere(broker: Broker, tmp_path: Path) -> None:
    names = {"esr.exchange": "tis", APP_COMMANDS: "make.files", LETTERS: "dead"}
    settings = Settings(home=tmp_path, broker_url=broker.url, broker_names=names)
    set_up(settings)
    assert broker.count("make.files") == broker.count("dead") == 0
    assert broker.count(APP_COMMANDS) is None
    with listener(settings) as s:
        broker.send("make.files", b"?")
        eventually(lambda: [x.queue for x in letters.waiting(s.state)] == ["make.files"])


def test_a_broker_that_is_killed_is_named_within_a_minute_and_nothing_is_lost(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(2))
    set_up(settings)
    time.sleep(SETTLED_SECONDS)
    broker.send(RECORDS, ELSEWHERE, ELSEWHERE | {"placementId": 2})
    broker.node.kill()
    with working(settings, scheduler=True) as s:
        within_a_minute(s, "not heard", "broker")
        assert not [name for name in alarms(s, "drift") if name.startswith("broker")]
        generate(s)
        (done,) = export(s, "WES")
        assert done.state == "done"
        assert outbox.oldest_unsent(s.state)[0] == 3
        broker.node.start()
        eventually(lambda: taken(s) == 2, 2 * MINUTE)
        eventually(lambda: outbox.oldest_unsent(s.state)[0] == 0)
        eventually(lambda: not alarms(s, "not heard"), MINUTE)
    assert len(broker.take(RECORD_EXPORTED)) == 2


def test_a_queue_made_anew_without_its_dead_letter_route_and_a_policy_that_overrides_are_named(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(3))
    with working(settings, scheduler=True) as s:
        eventually(lambda: last_heard(s.state) is not None)
        generate(s)
        time.sleep(SETTLED_SECONDS)
        broker.delete(APP_COMMANDS)
        broker.declare(APP_COMMANDS, {"x-queue-type": "quorum"})
        full = {"pattern": f"^{RECORD_EXPORTED}$", "definition": {"max-length": 1}}
        broker.node.api("PUT", f"policies/{broker.vhost}/full", full)
        within_a_minute(s, "drift", f"broker: queue {APP_COMMANDS}")
        within_a_minute(s, "drift", f"broker: policy on {RECORD_EXPORTED}")
        assert "'x-dead-letter-exchange'" in alarms(s, "drift")[f"broker: queue {APP_COMMANDS}"]
        # Work goes on meanwhile, from the queue as it is; what makes no sense is kept all the same.
        broker.send(APP_COMMANDS, {"deanery": "WES"}, b"?")
        eventually(lambda: len(by_message(s)) == 1)
        eventually(lambda: len(letters.waiting(s.state)) == 1)
        assert [file.records for file in files(s.state)] == [3]
        # The queue of events is full: what the broker did not confirm is unsent.
        assert outbox.oldest_unsent(s.state)[0] > 0
        broker.node.api("DELETE", f"policies/{broker.vhost}/full")
        eventually(lambda: outbox.oldest_unsent(s.state)[0] == 0)
        broker.delete(APP_COMMANDS)
        eventually(lambda: bad(settings) == {}, MINUTE)
        eventually(lambda: not alarms(s, "drift").keys() & {
            f"broker: queue {APP_COMMANDS}", f"broker: policy on {RECORD_EXPORTED}"
        }, MINUTE)  # fmt: skip
    sent = broker.take(RECORD_EXPORTED)
    assert len({message.message_id for message in sent}) == 3


def test_a_broker_emptied_of_its_policies_keeps_the_retry_policy(
    settings: Settings, broker: Broker
) -> None:
    set_up(settings)
    policy = {"pattern": "^esr", "definition": {"max-length-bytes": 10**9}, "apply-to": "queues"}
    broker.node.api("PUT", f"policies/{broker.vhost}/retry", policy)
    broker.node.api("DELETE", f"policies/{broker.vhost}/retry")
    assert broker.node.api("GET", f"policies/{broker.vhost}") == []
    eventually(lambda: bad(settings) == {})
    broker.send(APP_COMMANDS, {"deanery": "WES"}, ids=["refused"])
    assert broker.refuse(APP_COMMANDS) == 1
    eventually(lambda: broker.count(LETTERS) == 1)
    with listener(settings) as s:
        eventually(lambda: len(letters.waiting(s.state)) == 1)
        (letter,) = letters.waiting(s.state)
        assert letter.queue == APP_COMMANDS
        assert "delivered too often" in letter.reason
        asyncio.run(letters.send_again(settings, s.state, [letter], s.clock()))
        eventually(lambda: len(by_message(s)) == 1)
        assert letters.waiting(s.state) == []


def test_a_broker_that_lost_everything_is_set_up_anew_by_the_listener(
    settings: Settings, broker: Broker
) -> None:
    with listener(settings) as s:
        time.sleep(SETTLED_SECONDS)
        broker.drop()
        broker.create()
        eventually(lambda: bad(settings) == {}, MINUTE)
        broker.send(RECORDS, ELSEWHERE)
        eventually(lambda: taken(s) == 1)


def test_a_broker_that_refuses_us_or_is_not_there_is_one_clear_line(
    program: Program, broker: Broker, embedded_tcs: World, settings: Settings
) -> None:
    port = broker.node.port
    wrong = {
        "amqp://guest:guest@127.0.0.1:1/": ("does not answer", "check that it runs"),
        f"amqp://guest:secret@127.0.0.1:{port}/": ("refuses the user or password", "guest:***"),
        f"amqp://guest:guest@127.0.0.1:{port}/none": ("virtual host", "TIS_SYNC_BROKER_URL"),
        "http://127.0.0.1/": ("not a URL of RabbitMQ", "amqp://USER:PASSWORD@HOST"),
        "": ("not a URL of RabbitMQ", "TIS_SYNC_BROKER_URL"),
    }
    for url, parts in wrong.items():
        ended = program("esr", "listen", broker_url=url)
        assert ended.code in {1, 2}, url
        assert len(ended.err.strip().splitlines()) == 1
        assert all(part in ended.err for part in parts), ended.err
        assert "secret" not in ended.err
    ended = program("esr", "listen")
    assert ended.code == 2
    assert "No broker is set" in ended.err
    unknown = settings.model_copy(update={"broker_names": {"esr.typo": "x"}})
    assert unknown.broker_names
    given = {"tcs_url": embedded_tcs.url, "broker_url": broker.url}
    ended = program(
        "doctor", "--json", broker_api_url=f"http://guest:no@127.0.0.1:{broker.node.api_port}",
        broker_names='{"esr.typo": "x"}', **given,
    )  # fmt: skip
    assert ended.code == 1
    said = {finding["name"]: finding["said"] for finding in ended.json}
    assert said["setting TIS_SYNC_BROKER_NAMES"] == "unknown: esr.typo"
    assert "management API" in said["broker"]
    assert "401" in said["broker"]
