"""A broker that is killed, emptied or drifts: an alarm within a minute, and nothing is lost."""

import asyncio
import time
from pathlib import Path

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.brokers import SETTLED_SECONDS, Broker
from tests.cli.conftest import Program, program
from tests.consuming import EXTERNAL_RECORD, commands_by_message, consumer, received
from tests.exporting import export, generate
from tests.running import working
from tests.starters import starters
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import BROKER_SILENT, DRIFT, AlarmKind
from tis_sync.alarms.check_state import CheckState
from tis_sync.doctor.drift import check_broker_drift
from tis_sync.esr.files.store import find_files
from tis_sync.esr.messaging import dead_letters, outbox
from tis_sync.esr.messaging.amqp import declare
from tis_sync.esr.messaging.connection import connected
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.contract import PING
from tis_sync.esr.messaging.drift import BrokerFinding, examine_broker
from tis_sync.esr.messaging.topology import (
    APP_COMMANDS,
    DEAD_LETTER_QUEUE,
    RECORD_EXPORTED,
    RECORDS,
    topology,
)
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

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
    """Declare everything; nothing is consumed."""

    async def declare_all() -> None:
        async with connected(settings) as connection:
            assert await declare(connection, topology(settings)) == []

    asyncio.run(declare_all())


def problems(settings: Settings) -> dict[str, BrokerFinding]:
    findings = asyncio.run(examine_broker(settings))
    return {finding.name: finding for finding in findings if finding.state != CheckState.OK}


def alarms(s: Services, kind: AlarmKind) -> dict[str, str]:
    return {alarm.subject: alarm.text for alarm in s.alarms.open_alarms() if alarm.kind == kind}


def within_a_minute(s: Services, kind: AlarmKind, subject: str) -> float:
    seconds = eventually(lambda: subject in alarms(s, kind), MINUTE, s.alarms.open_alarms)
    print(f"{kind.name} {subject}: alarm after {seconds:.0f} s")
    return seconds


def test_every_difference_at_the_broker_is_reported_with_its_remedy(
    settings: Settings, broker: Broker
) -> None:
    assert set(problems(settings)) >= {
        f"queue {RECORDS}",
        "exchange esr.exchange",
        "exchange esr.dlx",
    }
    assert {f.state for f in problems(settings).values()} == {CheckState.MISSING}
    set_up(settings)
    assert problems(settings) == {}
    expected = topology(settings)

    right = dict(expected.inputs[RECORDS].arguments)
    wrong: dict[str, dict[str, object]] = {
        "x-dead-letter-exchange": {k: v for k, v in right.items() if "dead-letter" not in k},
        "x-delivery-limit": right | {"x-delivery-limit": 1},
        "inequivalent": {},  # a classic queue
        "x-message-ttl": right | {"x-message-ttl": 1000},
    }
    for argument, arguments in wrong.items():
        broker.delete(RECORDS)
        broker.declare(RECORDS, arguments)
        finding = problems(settings)[f"queue {RECORDS}"]
        assert finding.state == CheckState.DRIFTED
        assert argument in finding.message
        assert "delete it at the broker" in str(finding.remedy)
    broker.delete(RECORDS)
    set_up(settings)
    broker.node.api("DELETE", f"bindings/{broker.vhost}/e/esr.dlx/q/{DEAD_LETTER_QUEUE}/~")
    assert set(problems(settings)) == {f"binding of {DEAD_LETTER_QUEUE}"}
    set_up(settings)
    policy = {"pattern": "^esr\\.queue", "definition": {"message-ttl": 5}, "apply-to": "queues"}
    broker.node.api("PUT", f"policies/{broker.vhost}/short", policy)
    eventually(lambda: set(problems(settings)) == {
        f"policy on {queue.name}" for queue in expected.inputs.values()
    })  # fmt: skip
    assert "short overrides" in problems(settings)[f"policy on {RECORDS}"].message
    broker.node.api("DELETE", f"policies/{broker.vhost}/short")
    eventually(lambda: problems(settings) == {})


def without_api(settings: Settings) -> Settings:
    return settings.model_copy(update={"broker_api_url": None})


def test_without_the_management_api_what_is_not_checked_is_named(settings: Settings) -> None:
    set_up(settings)
    findings = asyncio.run(examine_broker(without_api(settings)))
    not_checked = {f.name: f for f in findings if f.state == CheckState.NOT_CHECKED}
    queues = topology(settings).queues()
    assert set(not_checked) == {"policies", *(f"binding of {queue.name}" for queue in queues)}
    assert "TIS_SYNC_BROKER_API_URL" in str(not_checked["policies"].remedy)
    assert "nothing consumes" in not_checked[f"binding of {RECORDS}"].message
    assert problems(settings) == {}


def test_without_the_management_api_a_ping_finds_a_lost_binding_and_disturbs_nobody(
    settings: Settings, broker: Broker
) -> None:
    blind = without_api(settings)
    set_up(settings)
    expected = topology(settings)

    async def examine_while_consuming() -> list[BrokerFinding]:
        """Examine while something consumes, which never binds a queue again."""
        async with connected(settings) as connection:
            channel = await connection.channel()
            for queue in expected.consumed_queues():
                await (await channel.get_queue(queue.name)).consume(received_types)
            found = await examine_broker(blind)
            await asyncio.sleep(0.5)
            silent.extend(await examine_broker(blind, pings=False))
            await asyncio.sleep(0.5)
            return found

    types: list[str | None] = []
    silent: list[BrokerFinding] = []

    async def received_types(message: AbstractIncomingMessage) -> None:
        types.append(message.type)
        await message.ack()

    found = {f.name: f for f in asyncio.run(examine_while_consuming())}
    for queue in expected.consumed_queues():
        assert found[f"binding of {queue.name}"].state == CheckState.OK
    assert types == [PING] * len(expected.consumed_queues())  # none of `silent`
    states = {f.name: (f.state, f.remedy) for f in silent}
    for queue in expected.consumed_queues():
        not_checked = (CheckState.NOT_CHECKED, "have it checked: `tis-sync doctor`")
        assert states[f"binding of {queue.name}"] == not_checked
    for queue in expected.events.values():  # other systems consume these
        assert found[f"binding of {queue.name}"].state == CheckState.NOT_CHECKED
        assert broker.count(queue.name) == 0
    vhost = broker.vhost
    broker.node.api("DELETE", f"bindings/{vhost}/e/esr.exchange/q/{RECORDS}/{RECORDS}")
    broker.node.api("DELETE", f"bindings/{vhost}/e/esr.dlx/q/{DEAD_LETTER_QUEUE}/~")
    lost = [f for f in asyncio.run(examine_while_consuming()) if f.state == CheckState.MISSING]
    assert {f.name for f in lost} == {f"binding of {RECORDS}", f"binding of {DEAD_LETTER_QUEUE}"}
    assert "esr.exchange is not bound to it" in lost[1].message + lost[0].message


def test_a_consumer_binds_its_queues_again_when_a_binding_is_lost(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(2))
    with consumer(without_api(settings)) as s:
        broker.node.api("DELETE", f"bindings/{broker.vhost}/e/esr.exchange/q/{RECORDS}/{RECORDS}")
        assert set(problems(settings)) == {f"binding of {RECORDS}"}
        eventually(lambda: problems(settings) == {}, MINUTE)
        # The binding of a queue that others consume is noticed when an event is returned.
        for queue in topology(settings).events:
            broker.node.api("DELETE", f"bindings/{broker.vhost}/e/esr.exchange/q/{queue}/{queue}")
        generate(s)
        export(s, "WES")
        eventually(lambda: outbox.unsent(s.state)[0] == 0, MINUTE)
        assert problems(settings) == {}
        assert dead_letters.waiting(s.state) == []
    assert len(broker.take(RECORD_EXPORTED)) == 2


def test_the_alarms_of_the_broker_stay_open_while_it_does_not_answer(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    s = Services(settings.model_copy(update={"tcs_url": embedded_tcs.url}))
    try:
        check_broker_drift(s)
        assert f"broker: queue {RECORDS}" in alarms(s, DRIFT)
        opened = alarms(s, DRIFT)
        gone = Settings(broker_url=f"amqp://guest:guest@127.0.0.1:1/{broker.vhost}").broker_url
        s.settings = settings.model_copy(update={"broker_url": gone})
        check_broker_drift(s)
        assert alarms(s, DRIFT) == opened
        s.settings = settings
        set_up(settings)
        check_broker_drift(s)
        assert alarms(s, DRIFT) == {}
    finally:
        s.close()


def test_the_names_in_the_settings_are_used_everywhere(broker: Broker, tmp_path: Path) -> None:
    names = {"esr.exchange": "tis", APP_COMMANDS: "make.files", DEAD_LETTER_QUEUE: "dead"}
    settings = Settings(home=tmp_path, broker_url=broker.url, broker_names=names)
    set_up(settings)
    assert broker.count("make.files") == broker.count("dead") == 0
    assert broker.count(APP_COMMANDS) is None
    with consumer(settings) as s:
        broker.send("make.files", b"?")
        eventually(lambda: [x.queue for x in dead_letters.waiting(s.state)] == ["make.files"])


def test_a_broker_that_is_killed_opens_an_alarm_within_a_minute_and_nothing_is_lost(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(2))
    set_up(settings)
    time.sleep(SETTLED_SECONDS)
    broker.send(RECORDS, EXTERNAL_RECORD, EXTERNAL_RECORD | {"placementId": 2})
    broker.node.kill()
    with working(settings, scheduler=True) as s:
        within_a_minute(s, BROKER_SILENT, "broker")
        assert not [name for name in alarms(s, DRIFT) if name.startswith("broker")]
        generate(s)
        (done,) = export(s, "WES")
        assert done.state == "done"
        assert outbox.unsent(s.state)[0] == 3
        broker.node.start()
        eventually(lambda: received(s) == 2, 2 * MINUTE)
        eventually(lambda: outbox.unsent(s.state)[0] == 0)
        eventually(lambda: not alarms(s, BROKER_SILENT), MINUTE)
    assert len(broker.take(RECORD_EXPORTED)) == 2


def test_a_queue_recreated_without_its_dead_letter_exchange_and_an_overriding_policy_open_alarms(
    settings: Settings, broker: Broker, embedded_tcs: World, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_tcs.fill(starters(3))
    with working(settings, scheduler=True) as s:
        eventually(lambda: last_contact(s.state) is not None)
        generate(s)
        time.sleep(SETTLED_SECONDS)
        broker.delete(APP_COMMANDS)
        broker.declare(APP_COMMANDS, {"x-queue-type": "quorum"})
        broker.send(RECORD_EXPORTED, {}, {}, ids=["earlier", "earlier too"])
        full = {"pattern": f"^{RECORD_EXPORTED}$", "definition": {"max-length": 1}}
        broker.node.api("PUT", f"policies/{broker.vhost}/full", full)
        within_a_minute(s, DRIFT, f"broker: queue {APP_COMMANDS}")
        within_a_minute(s, DRIFT, f"broker: policy on {RECORD_EXPORTED}")
        assert "'x-dead-letter-exchange'" in alarms(s, DRIFT)[f"broker: queue {APP_COMMANDS}"]
        # Meanwhile the queue is consumed as it is, and a message that can never be used is stored.
        broker.send(APP_COMMANDS, {"deanery": "WES"}, b"?")
        eventually(lambda: len(commands_by_message(s)) == 1)
        eventually(lambda: len(dead_letters.waiting(s.state)) == 1)
        assert [file.records for file in find_files(s.state)] == [3]
        # The queue of events is full: events that the broker refused are unsent. Without its limit
        # the queue still refuses that channel, so they go through another one.
        eventually(lambda: "events not confirmed" in caplog.text)
        assert outbox.unsent(s.state)[0] > 0
        broker.node.api("DELETE", f"policies/{broker.vhost}/full")
        eventually(lambda: outbox.unsent(s.state)[0] == 0)
        broker.delete(APP_COMMANDS)
        eventually(lambda: problems(settings) == {}, MINUTE)
        eventually(lambda: not alarms(s, DRIFT).keys() & {
            f"broker: queue {APP_COMMANDS}", f"broker: policy on {RECORD_EXPORTED}"
        }, MINUTE)  # fmt: skip
    sent = broker.take(RECORD_EXPORTED)
    assert len({message.message_id for message in sent} - {"earlier", "earlier too"}) == 3


def test_a_broker_emptied_of_its_policies_keeps_the_retry_policy(
    settings: Settings, broker: Broker
) -> None:
    set_up(settings)
    policy = {"pattern": "^esr", "definition": {"max-length-bytes": 10**9}, "apply-to": "queues"}
    broker.node.api("PUT", f"policies/{broker.vhost}/retry", policy)
    broker.node.api("DELETE", f"policies/{broker.vhost}/retry")
    assert broker.node.api("GET", f"policies/{broker.vhost}") == []
    eventually(lambda: problems(settings) == {})
    broker.send(APP_COMMANDS, {"deanery": "WES"}, ids=["rejected"])
    assert broker.reject(APP_COMMANDS) == 1
    eventually(lambda: broker.count(DEAD_LETTER_QUEUE) == 1)
    with consumer(settings) as s:
        eventually(lambda: len(dead_letters.waiting(s.state)) == 1)
        (letter,) = dead_letters.waiting(s.state)
        assert letter.queue == APP_COMMANDS
        assert "delivered too often" in letter.reason
        asyncio.run(dead_letters.send_back(settings, s.state, [letter], s.clock()))
        eventually(lambda: len(commands_by_message(s)) == 1)
        assert dead_letters.waiting(s.state) == []


def test_the_consumer_declares_everything_again_after_the_broker_lost_it(
    settings: Settings, broker: Broker
) -> None:
    with consumer(settings) as s:
        time.sleep(SETTLED_SECONDS)
        broker.drop()
        broker.create()
        eventually(lambda: problems(settings) == {}, MINUTE)
        broker.send(RECORDS, EXTERNAL_RECORD)
        eventually(lambda: received(s) == 1)


def test_a_broker_that_refuses_access_or_does_not_answer_is_reported_in_one_line(
    program: Program, broker: Broker, embedded_tcs: World, settings: Settings
) -> None:
    port = broker.node.port
    wrong = {
        "amqp://guest:guest@127.0.0.1:1/": ("does not answer", "check that it is running"),
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
    assert "No broker is configured" in ended.err
    unknown = settings.model_copy(update={"broker_names": {"esr.typo": "x"}})
    assert unknown.broker_names
    given = {"tcs_url": embedded_tcs.url, "broker_url": broker.url}
    ended = program(
        "doctor", "--json", broker_api_url=f"http://guest:no@127.0.0.1:{broker.node.api_port}",
        broker_names='{"esr.typo": "x"}', **given,
    )  # fmt: skip
    assert ended.code == 1
    messages = {finding["name"]: finding["message"] for finding in ended.json}
    assert "esr.typo" in messages["setting TIS_SYNC_BROKER_NAMES"]
    assert "management API" in messages["broker"]
    assert "401" in messages["broker"]
