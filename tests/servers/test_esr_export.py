"""Exports on SQLite: numbers never collide, nothing is sent twice, nothing is lost."""

import pickle
from base64 import b64encode
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import (
    check_consistency,
    export,
    generate,
    parsed_file,
    states,
    tcs_events,
    wait_until_ended,
)
from tests.running import working
from tests.starters import combined, event, person, placement, post, starters
from tests.world import World
from tis_sync.alarms.catalogue import (
    AT_RISK,
    EXPORT_FAILED,
    FILE_MISSING,
    INVALID_RECORDS,
    RECORDS_STALE,
    STUCK,
    TOO_LATE,
    AlarmKind,
)
from tis_sync.durable.tables import client
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.explain import explain
from tis_sync.esr.export.monitor import check_export
from tis_sync.esr.export.workflow import (
    EXPORT,
    recover_commands,
    request_day,
    start_commands,
)
from tis_sync.esr.files.store import find_files, read_contents
from tis_sync.esr.records import RecordState, find_records, record_history, records_at_risk
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs

TO_EXPORT, EXPORTED = RecordState.TO_EXPORT, RecordState.EXPORTED
INVALID, DELETED = RecordState.INVALID_DATA, RecordState.DELETED_BEFORE_EXPORT


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, esr_retry_seconds=(0.1, 0.1), notification_urls=[]
    )


def test_the_export_of_a_day_gives_every_deanery_a_file_even_without_records(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(5, ("WES", "LDN")))
    with working(settings, Clock()) as s:
        assert {c.state for c in export(s, *DEANERIES)} == {CommandState.DONE}
        by_deanery = {file.deanery: file for file in find_files(s.state)}
        assert set(by_deanery) == set(DEANERIES)
        assert {d: f.records for d, f in by_deanery.items() if f.records} == {"WES": 2, "LDN": 3}
        for file in by_deanery.values():
            parsed = parsed_file(s, file)
            assert parsed.header == {
                "type": "APP", "fileName": file.name, "createdDate": "20260302",
                "createdTime": "090000", "deanery": file.deanery,
            }  # fmt: skip
            assert parsed.trailer == {"type": "APP", "recordCount": str(file.records)}
            assert parsed.records.height == file.records
        assert states(s) == {EXPORTED: 5}
        check_consistency(s, embedded_tcs)


def test_a_repeated_command_sends_the_same_file_byte_for_byte(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(3))
    clock = Clock()
    with working(settings, clock) as s:
        (first,) = export(s, "WES")
        assert first.file is not None
        path = Path(settings.export().removeprefix("file://"), first.file)
        before = path.read_bytes()
        embedded_tcs.execute(sa.update(tcs.ContactDetails).values(surname="Changed"))
        clock.forward(days=3)
        path.unlink()
        (repeated,) = export(s, "WES", day=TODAY)
        assert (repeated.state, repeated.file) == (CommandState.DONE, first.file)
        assert path.read_bytes() == before
        (new,) = export(s, "WES", day=TODAY, new=True)
        assert new.file != first.file
        assert "_20260302_00000002" in str(new.file)
        check_consistency(s, embedded_tcs)


def test_a_file_is_not_sent_again_with_a_different_layout(
    settings: Settings, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(1))
    with working(settings) as s:
        (first,) = export(s, "WES")
    own = tmp_path / "layouts"
    own.mkdir()
    built_in = files("tis_sync.esr.files").joinpath("layouts", "app.toml").read_text("utf-8")
    town = '{ name = "town", format = "X(30)" }'
    assert town in built_in
    (own / "app.toml").write_text(built_in.replace(f"    {town},\n", ""))
    with working(settings.model_copy(update={"esr_layouts": own})) as s:
        (dead,) = export(s, "WES")
        assert dead.state == CommandState.DEAD
        assert dead.error == (
            f"{first.file} was sent with different bytes, because the layout of APP files has "
            "changed since. Restore the old layout (TIS_SYNC_ESR_LAYOUTS), or export with --new."
        )


def test_the_contents_of_a_file_can_be_read_without_its_destination(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(2))
    with working(settings) as s:
        export(s, "WES")
        (file,) = find_files(s.state)
        Path(settings.export().removeprefix("file://"), file.name).unlink()
        contents = read_contents(s.state, s.settings, file)
        assert contents.header["fileName"] == file.name
        assert contents.records.select("line", "lastName").rows() == [
            (2, "O'Brien 1"), (3, "O'Brien 2"),
        ]  # fmt: skip
        assert contents.trailer["recordCount"] == "2"


def test_commands_with_the_same_key_are_one_command(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as s:
        first = request_day(s, FileType.APP, TODAY, Trigger.SCHEDULE, "test")
        second = request_day(s, FileType.APP, TODAY, Trigger.SCHEDULE, "test")
        assert [c.id for c in first] == [c.id for c in second]
        start_commands(s, first)
        start_commands(s, second)
        ended = wait_until_ended(s, [c.id for c in first])
        assert {c.state for c in ended} == {CommandState.DONE}
        assert len(find_files(s.state)) == len(DEANERIES)


def test_after_an_early_manual_export_the_scheduled_one_sends_the_rest(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock()
    with working(settings, clock) as s:
        (early,) = export(s, "WES")
        embedded_tcs.fill(
            combined(starters(1), person(9), post(9), {"Placement": [
                placement(9, 9, 9, TODAY + timedelta(days=30))]})
        )  # fmt: skip
        clock.now = NOW.replace(hour=14)
        requested = request_day(s, FileType.APP, TODAY, Trigger.SCHEDULE, "test")
        (scheduled,) = [command for command in requested if command.deanery == "WES"]
        start_commands(s, [scheduled])
        (due,) = wait_until_ended(s, [scheduled.id])
        assert due.file != early.file
        by_placement = {record.placement_id: record.file for record in find_records(s.state)}
        assert by_placement == {1: early.file, 9: due.file}


def test_a_post_with_two_positions_gives_two_records_for_each_placement(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = combined(person(1), post(1, positions=2), {"Placement": [
        placement(1, 1, 1, TODAY + timedelta(days=9))]})  # fmt: skip
    embedded_tcs.fill(rows)
    with working(settings) as s:
        export(s, "WES")
        (file,) = find_files(s.state)
        assert file.records == 2
        check_consistency(s, embedded_tcs)
        assert len(tcs_events(embedded_tcs)) == 2


def test_the_history_of_a_record_has_every_state_with_its_reason(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock()
    with working(settings, clock) as s:

        def step(statement: Any = None) -> str:
            if statement is not None:
                embedded_tcs.execute(statement)
            clock.forward(minutes=15)
            generate(s)
            (record,) = find_records(s.state)
            return record.state

        contact, place = tcs.ContactDetails, tcs.Placement
        assert step() == TO_EXPORT
        assert step(sa.update(contact).values(postCode="nowhere")) == INVALID
        assert step() == INVALID
        assert step(sa.update(contact).values(postCode="SW1A 1AA")) == TO_EXPORT
        assert step(sa.update(place).values(lifecycleState="DRAFT")) == DELETED
        assert step() == DELETED
        assert step(sa.update(place).values(lifecycleState="APPROVED")) == TO_EXPORT
        deleted = event(1, 50_000_010, "DELETED", days=3)
        assert step(sa.insert(tcs.PostEsrEvent).values(deleted)) == DELETED
        reconciled = event(1, 50_000_010, "RECONCILED", days=4)
        assert step(sa.insert(tcs.PostEsrEvent).values(reconciled)) == TO_EXPORT
        export(s, "WES")
        assert step(sa.delete(place)) == EXPORTED
        history = record_history(s.state, [find_records(s.state)[0].id])
        assert [(change.state, change.reason) for change in history] == [
            (TO_EXPORT, None),
            (INVALID, "postcode 'NOWHERE' is not a UK postcode"),
            (TO_EXPORT, None),
            (DELETED, "the placement is a draft: it must be APPROVED"),
            (TO_EXPORT, None),
            (DELETED, "position 50000010 is no longer a reconciled position of the post"),
            (TO_EXPORT, None),
            (EXPORTED, f"in {find_files(s.state)[0].name}"),
        ]


def test_a_record_that_the_previous_exporter_sent_is_never_sent_again(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(2)
    rows["PlacementEsrEvent"] = [
        {"placementId": 1, "positionId": 50_000_010, "positionNumber": 10, "filename": "OLD.DAT",
         "eventDateTime": NOW.replace(tzinfo=None), "status": "EXPORTED"},
    ]  # fmt: skip
    embedded_tcs.fill(rows)
    with working(settings) as s:
        export(s, "WES")
        by_placement = {record.placement_id: record.state for record in find_records(s.state)}
        assert by_placement == {1: EXPORTED, 2: EXPORTED}
        (file,) = find_files(s.state)
        assert file.records == 1
        assert "in OLD.DAT" in " ".join(explain(s, 1).lines)


def test_notifications_of_any_day_are_sent_once_oldest_first(
    settings: Settings, embedded_tcs: World
) -> None:
    notifications = [
        {"id": n, "notificationTitleCode": "4", "deaneryPostNumber": f"WES/{n}",
         "managingDeaneryBodyCode": "WES", "nextAppointmentCurrentPlacementVpd": vpd,
         "createdDate": NOW.replace(tzinfo=None) - timedelta(days=days)}
        for n, days, vpd in ((1, 0, "96"), (2, 40, "096"), (3, 3, None), (4, 400, "7"))
    ]  # fmt: skip
    embedded_tcs.fill({"EsrNotification": notifications})
    since = settings.model_copy(update={"esr_notifications_since": TODAY - timedelta(days=100)})
    with working(since) as s:
        export(s, "WES", file_type=FileType.DNC)
        sent = parsed_file(s, find_files(s.state)[0]).records
        assert sent["deaneryPostNumber"].to_list() == ["WES/2", "WES/3", "WES/1"]
        vpds = sent["nextAppointmentCurrentPlacementVpd"].to_list()
        assert vpds == ["096", None, "096"]
        export(s, "WES", file_type=FileType.DNC, new=True)
        assert find_files(s.state)[0].records == 0
        export(s, "WES", file_type=FileType.DNF)
        assert find_files(s.state)[0].records == 3
        check_notification_claims(s)


def check_notification_claims(s: Services) -> None:
    claims = sa.select(t.line.c.claim).where(t.line.c.claim.is_not(None))
    with s.state.read() as connection:
        assert sorted(connection.scalars(claims)) == ["DNC/1", "DNC/2", "DNC/3"]


def test_a_command_that_fails_permanently_is_dead_with_an_alarm_until_it_is_retried(
    settings: Settings, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(1))
    folder = Path(settings.export().removeprefix("file://"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file instead of a folder")
    with working(settings) as s:
        (dead,) = export(s, "WES")
        assert (dead.state, dead.attempts) == (CommandState.DEAD, 1)
        assert "refuses access" in str(dead.error)
        (alarm,) = s.alarms.open_alarms()
        assert (alarm.kind, alarm.subject) == (EXPORT_FAILED, "APP WES")
        assert f"tis-sync esr dead retry {dead.id[:8]}" in alarm.text
        assert states(s) == {TO_EXPORT: 1}
        folder.unlink()
        start_commands(s, [Commands(s.state).revive(dead.id)])
        (done,) = wait_until_ended(s, [dead.id])
        assert (done.state, done.error) == (CommandState.DONE, None)
        assert s.alarms.open_alarms() == []
        check_consistency(s, embedded_tcs)


def test_alarms_of_the_export_open_once_and_close_automatically(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(2)
    rows["ContactDetails"][1]["postCode"] = "nowhere"
    embedded_tcs.fill(rows)
    clock = Clock(NOW.replace(day=1, hour=12))
    with working(settings, clock) as s:

        def alarms() -> set[tuple[AlarmKind, str]]:
            check_export(s)
            return {(alarm.kind, alarm.subject) for alarm in s.alarms.open_alarms()}

        generate(s)
        assert alarms() == set()
        clock.now = NOW.replace(hour=13, minute=59)
        generate(s)
        scheduled = (FileType.APP, FileType.DNC)
        missing = {
            (FILE_MISSING, f"{file_type} {code}") for file_type in scheduled for code in DEANERIES
        }
        assert alarms() == {(INVALID_RECORDS, "WES"), (STUCK, "WES"), *missing}
        clock.now = NOW.replace(hour=15, minute=1)
        generate(s)
        alarms()  # requests the commands of the day, because nothing did at their time
        started = (CommandState.QUEUED, CommandState.RUNNING, CommandState.DONE)
        commands = Commands(s.state).in_state(*started)
        assert {c.trigger for c in commands} == {Trigger.CATCH_UP}
        wait_until_ended(s, [c.id for c in commands])
        assert alarms() == {(INVALID_RECORDS, "WES")}
        embedded_tcs.execute(sa.update(tcs.ContactDetails).values(postCode="SW1A 1AA"))
        clock.forward(minutes=15)
        generate(s)
        assert alarms() == set()
        clock.forward(hours=2)
        assert alarms() == {(RECORDS_STALE, "records")}


def test_records_are_not_stale_right_after_a_restart(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({})
    clock = Clock(NOW - timedelta(days=1))
    with working(settings, clock) as s:
        generate(s)
    clock.now = NOW
    with working(settings, clock) as s:

        def stale() -> bool:
            check_export(s)
            return RECORDS_STALE in {alarm.kind for alarm in s.alarms.open_alarms()}

        assert not stale()  # the first refresh is yet to come
        clock.forward(minutes=2 * settings.esr_generate_minutes)
        assert stale()  # it did not come
        generate(s)
        assert not stale()


def test_a_record_that_the_next_export_cannot_include_opens_an_alarm_in_time(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({})
    clock = Clock(NOW - timedelta(days=7))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW.replace(hour=15)
        embedded_tcs.fill(starters(1, in_days=3))
        generate(s)
        assert [r.placement_id for r in records_at_risk(s.state, s.clock())] == [1]
        assert "AT RISK" in explain(s, 1).lines[-1]
        check_export(s)
        (risk,) = [alarm for alarm in s.alarms.open_alarms() if alarm.kind == AT_RISK]
        assert risk.text.startswith(
            "The next export is too late for 1 record of WES: placement 1 (starts 2026-03-05)."
        )
        assert "`tis-sync esr export WES --new`" in risk.text
        export(s, "WES", new=True)
        check_export(s)
        assert AT_RISK not in {alarm.kind for alarm in s.alarms.open_alarms()}


def test_a_placement_added_for_tomorrow_opens_an_alarm_at_once(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({})
    clock = Clock(NOW - timedelta(days=7))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW
        embedded_tcs.fill(starters(1, in_days=1))
        generate(s)
        (alarm,) = [alarm for alarm in s.alarms.open_alarms() if alarm.kind == TOO_LATE]
        assert alarm.subject == "placement 1"
        assert "hire this person in ESR manually" in alarm.text
        assert "too soon for ESR" in " ".join(explain(s, 1).lines)
        embedded_tcs.execute(sa.delete(tcs.Placement))
        generate(s)
        assert [a.kind for a in s.alarms.open_alarms() if a.kind == TOO_LATE] == []


def test_a_command_whose_workflow_ended_without_it_is_dead_and_can_be_retried(
    settings: Settings, embedded_tcs: World
) -> None:
    """As if its process had died between the two."""
    embedded_tcs.fill(starters(2, ("WES",)))
    clock = Clock()
    with working(settings, clock) as s:
        (command,) = export(s, "WES")
        state = sa.update(t.command).where(t.command.c.id == command.id)
        with s.state.write() as connection:
            connection.execute(state.values(state=CommandState.RUNNING, finished_at=None))
        clock.forward(minutes=1)
        recover_commands(s)
        (dead,) = Commands(s.state).many([command.id])
        assert dead.state == CommandState.DEAD
        assert "before the command did" in (dead.error or "")
        start_commands(s, [Commands(s.state).revive(command.id)])
        assert [c.state for c in wait_until_ended(s, [command.id])] == [CommandState.DONE]
        check_consistency(s, embedded_tcs)


def test_a_command_that_an_earlier_version_has_begun_is_dead_with_an_explanation_and_can_be_retried(
    settings: Settings, embedded_tcs: World
) -> None:
    """Its workflow is in a queue, its arguments are pickled, and no worker takes it up."""
    embedded_tcs.fill(starters(2, ("WES",)))
    clock = Clock()
    with working(settings, clock) as s:
        command = Commands(s.state).request(
            file_type=FileType.APP, deanery="WES", day=TODAY, trigger=Trigger.MANUAL,
            requested_by="test", now=clock(),
        )  # fmt: skip
        with client(settings) as dbos:
            dbos.enqueue(
                {
                    "workflow_name": EXPORT.name,
                    "queue_name": EXPORT.queue,
                    "workflow_id": command.workflow_id,
                    "app_version": "4",
                    "queue_partition_key": "WES",
                },
                command.id,
            )
        database = sa.create_engine(settings.dbos())
        pickled = {"i": b64encode(pickle.dumps({"args": (command.id,), "kwargs": {}})).decode()}
        with database.begin() as connection:
            connection.execute(sa.text("UPDATE workflow_status SET serialization = 'py_pickle'"))
            connection.execute(sa.text("UPDATE workflow_input SET inputs = :i"), pickled)
        database.dispose()
        clock.forward(minutes=1)
        recover_commands(s)
        (dead,) = Commands(s.state).many([command.id])
        assert dead.state == CommandState.DEAD
        assert "begun by an earlier version of tis-sync" in (dead.error or "")
        start_commands(s, [Commands(s.state).revive(command.id)])
        assert [c.state for c in wait_until_ended(s, [command.id])] == [CommandState.DONE]
        check_consistency(s, embedded_tcs)
