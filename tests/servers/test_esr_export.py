"""Numbers cannot collide, nothing is sent twice, nothing is lost: SQLite, PostgreSQL, MariaDB."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import check_books, ended, export, generate, said, states, told
from tests.running import working
from tests.starters import event, person, placement, post, starters, together
from tests.world import World
from tis_sync.esr import watch as esr_watch
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, DEANERIES, DNC, DNF
from tis_sync.esr.explain import explain
from tis_sync.esr.files import files
from tis_sync.esr.plan import DELETED, EXPORTED, INVALID, TO_EXPORT
from tis_sync.esr.records import at_risk, history, records
from tis_sync.esr.workflows import ask_for_day, start
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.state import esr as t
from tis_sync.tcs import tables as tcs

ROUNDS = int(os.environ.get("TIS_SYNC_TEST_ROUNDS", "10"))  # the issue asks for 100
WORKERS = 4


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, esr_retry_seconds=(0.1, 0.1), alert_urls=[]
    )


def test_a_days_export_gives_each_deanery_a_file_also_an_empty_one(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(5, ("WES", "LDN")))
    with working(settings, Clock()) as s:
        assert {c.state for c in export(s, *DEANERIES)} == {"done"}
        made = {file.deanery: file for file in files(s.state)}
        assert set(made) == set(DEANERIES)
        assert {d: f.records for d, f in made.items() if f.records} == {"WES": 2, "LDN": 3}
        for file in made.values():
            parsed = said(settings, file)
            assert parsed.header == {
                "type": "APP", "fileName": file.name, "createdDate": "20260302",
                "createdTime": "090000", "deanery": file.deanery,
            }  # fmt: skip
            assert parsed.trailer == {"type": "APP", "recordCount": str(file.records)}
            assert parsed.body.height == file.records
        assert states(s) == {EXPORTED: 5}
        check_books(s, embedded_tcs)


def test_a_command_sent_again_gives_the_same_file_byte_for_byte(
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
        (again,) = export(s, "WES", day=TODAY)
        assert (again.state, again.file) == ("done", first.file)
        assert path.read_bytes() == before
        (new,) = export(s, "WES", day=TODAY, new=True)
        assert new.file != first.file
        assert "_20260302_00000002" in str(new.file)
        check_books(s, embedded_tcs)


def test_commands_of_one_key_are_one_command(settings: Settings, embedded_tcs: World) -> None:
    with working(settings) as s:
        first = ask_for_day(s, APP, TODAY, "schedule", "test")
        second = ask_for_day(s, APP, TODAY, "schedule", "test")
        assert [c.id for c in first] == [c.id for c in second]
        start(first)
        start(second)
        assert {c.state for c in ended(s, [c.id for c in first])} == {"done"}
        assert len(files(s.state)) == len(DEANERIES)


def test_an_export_by_hand_before_its_time_leaves_nobody_for_tomorrow(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock()
    with working(settings, clock) as s:
        (early,) = export(s, "WES")
        embedded_tcs.fill(
            together(starters(1), person(9), post(9), {"Placement": [
                placement(9, 9, 9, TODAY + timedelta(days=30))]})
        )  # fmt: skip
        clock.now = NOW.replace(hour=14)
        asked = [c for c in ask_for_day(s, APP, TODAY, "schedule", "test") if c.deanery == "WES"]
        start(asked)
        (due,) = ended(s, [asked[0].id])
        assert due.file != early.file
        assert {r.placement_id: r.file for r in records(s.state)} == {1: early.file, 9: due.file}


def test_a_post_with_two_positions_gives_two_records_of_each_placement(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = together(person(1), post(1, positions=2), {"Placement": [
        placement(1, 1, 1, TODAY + timedelta(days=9))]})  # fmt: skip
    embedded_tcs.fill(rows)
    with working(settings) as s:
        export(s, "WES")
        (file,) = files(s.state)
        assert file.records == 2
        check_books(s, embedded_tcs)
        assert len(told(embedded_tcs)) == 2


def test_the_life_of_a_record_is_kept_with_reasons(settings: Settings, embedded_tcs: World) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock()
    with working(settings, clock) as s:

        def step(statement: Any = None) -> str:
            if statement is not None:
                embedded_tcs.execute(statement)
            clock.forward(minutes=15)
            generate(s)
            (record,) = records(s.state)
            return record.state

        contact, place = tcs.ContactDetails, tcs.Placement
        assert step() == TO_EXPORT
        assert step(sa.update(contact).values(postCode="nowhere")) == INVALID
        assert step() == INVALID
        assert step(sa.update(contact).values(postCode="SW1A 1AA")) == TO_EXPORT
        assert step(sa.update(place).values(lifecycleState="DRAFT")) == DELETED
        assert step() == DELETED
        assert step(sa.update(place).values(lifecycleState="APPROVED")) == TO_EXPORT
        gone = event(1, 50_000_010, "DELETED", days=3)
        assert step(sa.insert(tcs.PostEsrEvent).values(gone)) == DELETED
        back = event(1, 50_000_010, "RECONCILED", days=4)
        assert step(sa.insert(tcs.PostEsrEvent).values(back)) == TO_EXPORT
        export(s, "WES")
        assert step(sa.delete(place)) == EXPORTED
        assert [(c.state, c.reason) for c in history(s.state, [records(s.state)[0].id])] == [
            (TO_EXPORT, None),
            (INVALID, "postcode 'NOWHERE' is no UK postcode"),
            (TO_EXPORT, None),
            (DELETED, "the placement is a draft: it has to be APPROVED"),
            (TO_EXPORT, None),
            (DELETED, "position 50000010 is no longer a reconciled one of the post"),
            (TO_EXPORT, None),
            (EXPORTED, f"in {files(s.state)[0].name}"),
        ]


def test_what_the_exporter_before_us_has_sent_is_never_sent_again(
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
        assert {r.placement_id: r.state for r in records(s.state)} == {1: EXPORTED, 2: EXPORTED}
        (file,) = files(s.state)
        assert file.records == 1
        assert "in OLD.DAT" in " ".join(explain(s, 1).lines)


def test_notifications_are_sent_once_oldest_first_whatever_day_they_were_made(
    settings: Settings, embedded_tcs: World
) -> None:
    made = [
        {"id": n, "notificationTitleCode": "4", "deaneryPostNumber": f"WES/{n}",
         "managingDeaneryBodyCode": "WES", "nextAppointmentCurrentPlacementVpd": vpd,
         "createdDate": NOW.replace(tzinfo=None) - timedelta(days=days)}
        for n, days, vpd in ((1, 0, "96"), (2, 40, "096"), (3, 3, None), (4, 400, "7"))
    ]  # fmt: skip
    embedded_tcs.fill({"EsrNotification": made})
    since = settings.model_copy(update={"esr_since": TODAY - timedelta(days=100)})
    with working(since) as s:
        export(s, "WES", file_type=DNC)
        body = said(settings, files(s.state)[0]).body
        assert body["deaneryPostNumber"].to_list() == ["WES/2", "WES/3", "WES/1"]
        vpds = body["nextAppointmentCurrentPlacementVpd"].to_list()
        assert vpds == ["096", None, "096"]
        export(s, "WES", file_type=DNC, new=True)
        assert files(s.state)[0].records == 0
        export(s, "WES", file_type=DNF)
        assert files(s.state)[0].records == 3
        check_books_of_notifications(s)


def check_books_of_notifications(s: Services) -> None:
    claims = sa.select(t.line.c.claim).where(t.line.c.claim.is_not(None))
    with s.state.connect() as connection:
        assert sorted(connection.scalars(claims)) == ["DNC/1", "DNC/2", "DNC/3"]


def test_a_command_that_fails_for_good_is_dead_alarmed_and_mended_by_a_retry(
    settings: Settings, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(1))
    folder = Path(settings.export().removeprefix("file://"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder should be")
    with working(settings) as s:
        (dead,) = export(s, "WES")
        assert (dead.state, dead.attempts) == ("dead", 1)
        assert "refuses us" in str(dead.error)
        (alarm,) = s.alarms.open()
        assert (alarm.kind, alarm.subject) == ("dead", "APP WES")
        assert f"tis-sync esr dead retry {dead.id[:8]}" in alarm.text
        assert states(s) == {TO_EXPORT: 1}
        folder.unlink()
        start([Commands(s.state).revive(dead.id)])
        (done,) = ended(s, [dead.id])
        assert (done.state, done.error) == ("done", None)
        assert s.alarms.open() == []
        check_books(s, embedded_tcs)


def test_alarms_of_the_export_rise_once_and_close_by_themselves(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(2)
    rows["ContactDetails"][1]["postCode"] = "nowhere"
    embedded_tcs.fill(rows)
    clock = Clock(NOW.replace(day=1, hour=12))
    with working(settings, clock) as s:

        def alarms() -> set[tuple[str, str]]:
            esr_watch.watch(s)
            return {(alarm.kind, alarm.subject) for alarm in s.alarms.open()}

        generate(s)
        assert alarms() == set()
        clock.now = NOW.replace(hour=13, minute=59)
        generate(s)
        missing = {("no file", f"{kind} {code}") for kind in (APP, DNC) for code in DEANERIES}
        assert alarms() == {("invalid", "WES"), ("stuck", "WES"), *missing}
        clock.now = NOW.replace(hour=15, minute=1)
        generate(s)
        alarms()  # gives the commands of the day, which nobody gave at their time
        commands = Commands(s.state).in_state("queued", "running", "done")
        assert {c.trigger for c in commands} == {"catch-up"}
        ended(s, [c.id for c in commands])
        assert alarms() == {("invalid", "WES")}
        embedded_tcs.execute(sa.update(tcs.ContactDetails).values(postCode="SW1A 1AA"))
        clock.forward(minutes=15)
        generate(s)
        assert alarms() == set()
        clock.forward(hours=2)
        assert alarms() == {("stale", "records")}


def test_a_starter_whom_the_next_export_cannot_hold_is_shouted_about_in_time(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({})
    clock = Clock(NOW - timedelta(days=7))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW.replace(hour=15)
        embedded_tcs.fill(starters(1, in_days=3))
        generate(s)
        assert [r.placement_id for r in at_risk(s.state, s.clock())] == [1]
        assert "AT RISK" in explain(s, 1).lines[-1]
        esr_watch.watch(s)
        (risk,) = [alarm for alarm in s.alarms.open() if alarm.kind == "at risk"]
        assert "placement 1 (starts 2026-03-05)" in risk.text
        assert "`tis-sync esr export WES --new`" in risk.text
        export(s, "WES", new=True)
        esr_watch.watch(s)
        assert "at risk" not in {alarm.kind for alarm in s.alarms.open()}


def test_one_added_for_tomorrow_is_reported_as_too_late_at_once(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({})
    clock = Clock(NOW - timedelta(days=7))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW
        embedded_tcs.fill(starters(1, in_days=1))
        generate(s)
        (alarm,) = [alarm for alarm in s.alarms.open() if alarm.kind == "too late"]
        assert alarm.subject == "placement 1"
        assert "hire this person by hand" in alarm.text
        assert "too late for ESR" in " ".join(explain(s, 1).lines)
        embedded_tcs.execute(sa.delete(tcs.Placement))
        generate(s)
        assert [a.kind for a in s.alarms.open() if a.kind == "too late"] == []
