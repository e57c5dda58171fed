"""Messaging with a real RabbitMQ: records and commands, events, dead letters."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.conftest import NOW, TODAY
from tests.consuming import EXTERNAL_RECORD, commands_by_message, consumer, received
from tests.exporting import check_consistency, export, generate, parsed_file, states
from tests.running import working
from tests.starters import starters
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import DEAD_LETTERS
from tis_sync.esr.files.store import find_files
from tis_sync.esr.messaging import dead_letters, outbox
from tis_sync.esr.messaging.topology import (
    APP_COMMANDS,
    DEAD_LETTER_QUEUE,
    FILE_GENERATED,
    NOTIFICATION_COMMANDS,
    RECORD_EXPORTED,
    RECORDS,
)
from tis_sync.esr.records import Record, RecordOrigin, RecordState, find_records, record_history
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers


@pytest.fixture
def settings(broker: Broker, embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)


def test_a_command_is_exported_once_however_often_its_message_arrives_and_events_are_published(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(3))
    with consumer(settings) as s:
        generate(s)
        command = {"deanery": "wes"}
        broker.send(APP_COMMANDS, command, command, command, ids=["one", "one", "two"])
        eventually(lambda: len(commands_by_message(s)) == 2)
        eventually(lambda: broker.count(APP_COMMANDS) == 0)
        one, two = commands_by_message(s)
        assert (one.state, one.deanery, one.day, one.requested_by) == ("done", "WES", TODAY, "TIS")
        assert two.file == one.file
        eventually(lambda: outbox.unsent(s.state)[0] == 0)
        check_consistency(s, embedded_tcs)
        (file,) = find_files(s.state)
    exported, generated = broker.take(RECORD_EXPORTED), broker.take(FILE_GENERATED)
    assert [json.loads(m.body)["fileName"] for m in exported] == [file.name] * 3
    assert sorted(json.loads(m.body)["placementId"] for m in exported) == [1, 2, 3]
    (event,) = generated
    assert json.loads(event.body) == {
        "fileName": file.name, "fileType": "APP", "deanery": "WES", "date": str(TODAY),
        "number": 1, "records": 3, "size": file.size, "sha256": file.sha256,
        "writtenAt": file.written_at.isoformat().replace("+00:00", "Z"),  # type: ignore[union-attr]
    }  # fmt: skip
    for message in (*exported, event):
        assert message.delivery_mode == 2
        assert message.app_id == "ESR"
        assert message.content_type == "application/json"
        assert message.correlation_id == file.command_id
        assert message.headers["deanery"] == "WES"
        assert message.headers["sourceFile"] == file.name
    assert {m.type for m in exported} == {RECORD_EXPORTED}
    assert event.message_id == f"{FILE_GENERATED}:{file.name}"


def test_a_notification_command_exports_the_unsent_or_all_notifications(
    settings: Settings, broker: Broker
) -> None:
    with consumer(settings) as s:
        broker.send(NOTIFICATION_COMMANDS, {"deanery": "OXF"}, {"deanery": "OXF", "full": True})
        eventually(lambda: len(commands_by_message(s)) == 2)
        assert sorted(f.file_type for f in find_files(s.state)) == ["DNC", "DNF"]
        assert broker.count(DEAD_LETTER_QUEUE) == 0


def test_an_external_record_is_validated_and_exported_and_generation_leaves_it_alone(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))

    def external(s: Services) -> Record:
        (record,) = find_records(s.state, placement=900001)
        return record

    with consumer(settings) as s:
        wrong = EXTERNAL_RECORD | {"dob": None, "address": {"postcode": "nowhere"}}
        broker.send(RECORDS, wrong)
        eventually(lambda: received(s) == 1)
        assert external(s).state == "INVALID_DATA"
        assert str(external(s).reason).count(";") == 1
        generate(s)
        assert external(s).state == "INVALID_DATA"
        broker.send(RECORDS, EXTERNAL_RECORD, ids=["right"])
        eventually(lambda: received(s) == 2)
        assert (external(s).state, external(s).origin) == (
            RecordState.TO_EXPORT,
            RecordOrigin.MESSAGE,
        )
        assert external(s).deanery == "WES"
        broker.send(RECORDS, EXTERNAL_RECORD | {"lastName": "Older"}, ids=["right"])
        generate(s)
        (done,) = export(s, "WES")
        assert states(s) == {"EXPORTED": 2}
        broker.send(RECORDS, EXTERNAL_RECORD | {"lastName": "Newer"})
        eventually(lambda: received(s) == 3)
        assert [c.state for c in record_history(s.state, [external(s).id])] == [
            "INVALID_DATA", "TO_EXPORT", "EXPORTED",
        ]  # fmt: skip
        check_consistency(s, embedded_tcs)
        (file,) = find_files(s.state)
        lines = parsed_file(s, file).records
        (line,) = lines.filter(lines["positionId"] == "77").to_dicts()
    assert done.state == "done"
    assert line["lastName"] == "Übermut"
    assert line["address1"] == "1 High\\Street"
    assert line["regNumber1"] == "0123456"
    assert (line["title"], line["gender"], line["dob"]) == ("DR", "F", "19950203")
    assert line["postcode"] == "SW1A 1AA"


def test_an_external_record_that_is_too_late_is_not_exported(
    settings: Settings, broker: Broker
) -> None:
    soon = EXTERNAL_RECORD | {"projectedHireDate": str(TODAY + timedelta(days=3))}
    late = EXTERNAL_RECORD | {"placementId": 2, "projectedHireDate": str(TODAY + timedelta(days=2))}
    with consumer(settings) as s:
        broker.send(RECORDS, soon, late)
        eventually(lambda: received(s) == 2)
        results = {r.placement_id: (r.state, r.reason) for r in find_records(s.state)}
        assert results[900001] == (RecordState.TO_EXPORT, None)
        state, reason = results[2]
        assert state == RecordState.DELETED_BEFORE_EXPORT
        assert reason == (
            "it starts on 4 March 2026; the start dates that can be exported today are "
            "5 March 2026 to 31 May 2026"
        )
    with working(settings, lambda: NOW + timedelta(days=1)) as s:
        generate(s)
        assert states(s) == {"DELETED_BEFORE_EXPORT": 2}


POISON: list[tuple[str, object, str]] = [
    (APP_COMMANDS, b"not json", "not JSON"),
    (APP_COMMANDS, b"\xff\xfe", "not JSON"),
    (APP_COMMANDS, {"deanery": "XYZ"}, "deanery: Input should be 'EMD'"),
    (APP_COMMANDS, {"deanery": "WES", "date": "2026-13-45"}, "'2026-13-45' is not a date"),
    (APP_COMMANDS, {"deanery": "WES", "date": "2026-03-03"}, "2026-03-03 is in the future"),
    (NOTIFICATION_COMMANDS, ["WES"], "message: Input should be"),
    (RECORDS, {"placementId": 1}, "positionId: Field required"),
    (RECORDS, EXTERNAL_RECORD | {"placementId": 2**63}, "placementId: Input should be less than"),
    (
        RECORDS, EXTERNAL_RECORD | {"professionalBodies": [{"body": "X", "regNumber": "1"}]},
        "professionalBodies.0.body: Input should be 'General Medical Council'",
    ),
]  # fmt: skip


def test_a_message_that_can_never_be_used_becomes_a_dead_letter_and_the_others_are_handled(
    settings: Settings, broker: Broker
) -> None:
    with consumer(settings) as s:
        for number, (queue, body, _) in enumerate(POISON):
            broker.send(queue, body, ids=[f"poison-{number}"])
        broker.send(RECORDS, EXTERNAL_RECORD)
        broker.send(APP_COMMANDS, {"deanery": "WES"})
        eventually(lambda: len(dead_letters.waiting(s.state)) == len(POISON))
        eventually(lambda: len(commands_by_message(s)) == 1)
        eventually(lambda: received(s) == 1)
        letters = {letter.message_id: letter for letter in dead_letters.waiting(s.state)}
        for number, (queue, _, reason) in enumerate(POISON):
            assert reason in letters[f"poison-{number}"].reason
            assert letters[f"poison-{number}"].queue == queue
        alarms = {a.subject: a.text for a in s.alarms.open_alarms() if a.kind == DEAD_LETTERS}
        assert set(alarms) == {APP_COMMANDS, NOTIFICATION_COMMANDS, RECORDS}
        assert "tis-sync esr dead retry --all" in alarms[RECORDS]
        assert broker.count(DEAD_LETTER_QUEUE) == 0


def test_every_message_in_the_dead_letter_queue_is_stored_once(
    settings: Settings, broker: Broker
) -> None:
    strange = {"x-died-in": "q", "x-reason": "r", "x-died-at": "?"}
    with consumer(settings) as s:
        broker.send(DEAD_LETTER_QUEUE, b"\x00\xff", ids=["strange"], headers=strange)
        broker.send(DEAD_LETTER_QUEUE, b"", b"", ids=["plain", "plain"])
        eventually(lambda: len(dead_letters.waiting(s.state)) == 2)
        eventually(lambda: broker.count(DEAD_LETTER_QUEUE) == 0)
        letters = {x.message_id: x for x in dead_letters.waiting(s.state)}
        assert (letters["strange"].queue, letters["strange"].reason) == ("q", "r")
        assert letters["strange"].body == b"\x00\xff"
        assert letters["plain"].queue == DEAD_LETTER_QUEUE
        assert letters["plain"].reason == "it was published here directly"
