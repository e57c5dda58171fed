"""RabbitMQ, really there: records and commands in, events out, dead letters, cuts."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.brokers import Broker, eventually
from tests.conftest import NOW, TODAY
from tests.exporting import check_books, export, generate, said, states
from tests.listening import ELSEWHERE, by_message, listener, taken
from tests.running import working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.broker import letters, outbox
from tis_sync.esr.broker.topology import (
    APP_COMMANDS,
    FILE_GENERATED,
    LETTERS,
    NOTIFICATION_COMMANDS,
    RECORD_EXPORTED,
    RECORDS,
)
from tis_sync.esr.files import files
from tis_sync.esr.records import Record, history, records
from tis_sync.runs.services import Services
from tis_sync.settings import Settings

pytestmark = pytest.mark.servers


@pytest.fixture
def settings(broker: Broker, embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)


def test_a_command_by_message_exports_once_however_often_it_comes_and_others_are_told(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(3))
    with listener(settings) as s:
        generate(s)
        command = {"deanery": "wes"}
        broker.send(APP_COMMANDS, command, command, command, ids=["one", "one", "two"])
        eventually(lambda: len(by_message(s)) == 2)
        eventually(lambda: broker.count(APP_COMMANDS) == 0)
        one, two = by_message(s)
        assert (one.state, one.deanery, one.day, one.who) == ("done", "WES", TODAY, "TIS")
        assert two.file == one.file
        eventually(lambda: outbox.oldest_unsent(s.state)[0] == 0)
        check_books(s, embedded_tcs)
        (file,) = files(s.state)
    exported, made = broker.take(RECORD_EXPORTED), broker.take(FILE_GENERATED)
    assert [json.loads(m.body)["fileName"] for m in exported] == [file.name] * 3
    assert sorted(json.loads(m.body)["placementId"] for m in exported) == [1, 2, 3]
    (event,) = made
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


def test_notification_commands_make_changes_or_the_full_file(
    settings: Settings, broker: Broker
) -> None:
    with listener(settings) as s:
        broker.send(NOTIFICATION_COMMANDS, {"deanery": "OXF"}, {"deanery": "OXF", "full": True})
        eventually(lambda: len(by_message(s)) == 2)
        assert sorted(f.file_type for f in files(s.state)) == ["DNC", "DNF"]
        assert broker.count(LETTERS) == 0


def test_a_record_from_elsewhere_is_checked_exported_and_left_alone_by_generation(
    settings: Settings, broker: Broker, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))

    def mine(s: Services) -> Record:
        (record,) = records(s.state, placement=900001)
        return record

    with listener(settings) as s:
        wrong = ELSEWHERE | {"dob": None, "address": {"postcode": "nowhere"}}
        broker.send(RECORDS, wrong)
        eventually(lambda: taken(s) == 1)
        assert mine(s).state == "INVALID_DATA"
        assert str(mine(s).reason).count(";") == 1
        generate(s)
        assert mine(s).state == "INVALID_DATA"
        broker.send(RECORDS, ELSEWHERE, ids=["right"])
        eventually(lambda: taken(s) == 2)
        assert (mine(s).state, mine(s).source, mine(s).deanery) == ("TO_EXPORT", "message", "WES")
        broker.send(RECORDS, ELSEWHERE | {"lastName": "Older"}, ids=["right"])
        generate(s)
        (done,) = export(s, "WES")
        assert states(s) == {"EXPORTED": 2}
        broker.send(RECORDS, ELSEWHERE | {"lastName": "Newer"})
        eventually(lambda: taken(s) == 3)
        assert [c.state for c in history(s.state, [mine(s).id])] == [
            "INVALID_DATA", "TO_EXPORT", "EXPORTED",
        ]  # fmt: skip
        check_books(s, embedded_tcs)
        (file,) = files(s.state)
        (line,) = said(settings, file).body.filter(
            said(settings, file).body["positionId"] == "77"
        ).to_dicts()  # fmt: skip
    assert done.state == "done"
    assert line["lastName"] == "Übermut"
    assert line["address1"] == "1 High\\Street"
    assert line["regNumber1"] == "0123456"
    assert (line["title"], line["gender"], line["dob"]) == ("DR", "F", "19950203")
    assert line["postcode"] == "SW1A 1AA"


def test_a_record_from_elsewhere_whose_time_has_passed_is_not_sent(
    settings: Settings, broker: Broker
) -> None:
    soon = ELSEWHERE | {"projectedHireDate": str(TODAY + timedelta(days=3))}
    late = ELSEWHERE | {"placementId": 2, "projectedHireDate": str(TODAY + timedelta(days=2))}
    with listener(settings) as s:
        broker.send(RECORDS, soon, late)
        eventually(lambda: taken(s) == 2)
        found = {r.placement_id: (r.state, r.reason) for r in records(s.state)}
        assert found[900001] == ("TO_EXPORT", None)
        assert found[2][0] == "DELETED_BEFORE_EXPORT"
        assert "it starts on 4 March 2026; what can go today starts from 5 March" in str(
            found[2][1]
        )
    with working(settings, lambda: NOW + timedelta(days=1)) as s:
        generate(s)
        assert states(s) == {"DELETED_BEFORE_EXPORT": 2}


POISON: list[tuple[str, object, str]] = [
    (APP_COMMANDS, b"not json", "not JSON"),
    (APP_COMMANDS, b"\xff\xfe", "not JSON"),
    (APP_COMMANDS, {"deanery": "XYZ"}, "deanery: Input should be 'EMD'"),
    (APP_COMMANDS, {"deanery": "WES", "date": "2026-13-45"}, "date: Input should be a valid date"),
    (APP_COMMANDS, {"deanery": "WES", "date": "2026-03-03"}, "2026-03-03 lies in the future"),
    (NOTIFICATION_COMMANDS, ["WES"], "message: Input should be"),
    (RECORDS, {"placementId": 1}, "positionId: Field required"),
    (RECORDS, ELSEWHERE | {"placementId": 2**63}, "placementId: Input should be less than"),
    (RECORDS, ELSEWHERE | {"professionalBodies": [{"body": "X", "regNumber": "1"}]}, "General"),
]  # fmt: skip


def test_what_makes_no_sense_ends_in_the_dead_letters_with_its_reason_and_the_rest_goes_on(
    settings: Settings, broker: Broker
) -> None:
    with listener(settings) as s:
        for number, (queue, body, _) in enumerate(POISON):
            broker.send(queue, body, ids=[f"poison-{number}"])
        broker.send(RECORDS, ELSEWHERE)
        broker.send(APP_COMMANDS, {"deanery": "WES"})
        eventually(lambda: len(letters.waiting(s.state)) == len(POISON))
        eventually(lambda: len(by_message(s)) == 1)
        eventually(lambda: taken(s) == 1)
        found = {letter.message_id: letter for letter in letters.waiting(s.state)}
        for number, (queue, _, reason) in enumerate(POISON):
            assert reason in found[f"poison-{number}"].reason
            assert found[f"poison-{number}"].queue == queue
        alarms = {a.subject: a.text for a in s.alarms.open() if a.kind == "dead letters"}
        assert set(alarms) == {APP_COMMANDS, NOTIFICATION_COMMANDS, RECORDS}
        assert "tis-sync esr dead retry --all" in alarms[RECORDS]
        assert broker.count(LETTERS) == 0


def test_whatever_lies_in_the_dead_letters_is_kept_and_once(
    settings: Settings, broker: Broker
) -> None:
    strange = {"x-died-in": "q", "x-reason": "r", "x-died-at": "?"}
    with listener(settings) as s:
        broker.send(LETTERS, b"\x00\xff", ids=["strange"], headers=strange)
        broker.send(LETTERS, b"", b"", ids=["plain", "plain"])
        eventually(lambda: len(letters.waiting(s.state)) == 2)
        eventually(lambda: broker.count(LETTERS) == 0)
        found = {x.message_id: x for x in letters.waiting(s.state)}
        assert (found["strange"].queue, found["strange"].reason) == ("q", "r")
        assert found["strange"].body == b"\x00\xff"
        assert (found["plain"].queue, found["plain"].reason) == (LETTERS, "it was sent here")
