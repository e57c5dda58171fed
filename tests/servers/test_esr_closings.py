"""Alarms of the export say why they close: what became of the records and files."""

from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import export, generate, states, wait_until_ended
from tests.running import working
from tests.starters import placement, starters
from tests.world import World
from tis_sync.alarms.catalogue import (
    AT_RISK,
    FILE_MISSING,
    INVALID_RECORDS,
    STUCK,
    TOO_LATE,
    AlarmKind,
    Resolution,
)
from tis_sync.alarms.store import Alarm
from tis_sync.esr.calendar import due
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.monitor import check_export
from tis_sync.esr.export.workflow import start_commands
from tis_sync.esr.records import RecordState
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as tcs

DAY = timedelta(days=1)
BEFORE = NOW - 7 * DAY  # this installation has exported since then


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, esr_retry_seconds=(0.1,))


def is_open(s: Services, kind: AlarmKind) -> bool:
    return bool(s.alarms.open_alarms(kind))


def closed(s: Services, kind: AlarmKind) -> Alarm:
    """The only closed alarm of a kind."""
    (alarm,) = [alarm for alarm in s.alarms.closed_alarms(100) if alarm.kind == kind]
    return alarm


def hold_commands(s: Services, day: date) -> None:
    """Record the commands of a day as dead, so that the monitor does not request them."""
    commands = Commands(s.state)
    for file_type in (FileType.APP, FileType.DNC):
        for deanery in DEANERIES:
            command = commands.request(
                file_type=file_type, deanery=deanery, day=day, trigger=Trigger.SCHEDULE,
                requested_by="test", now=s.clock(), key=f"{file_type}/{deanery}/{day}",
            )  # fmt: skip
            commands.end(command.id, CommandState.DEAD, s.clock(), "it failed")


def at_risk(s: Services, clock: Clock, world: World) -> None:
    """Open the alarm about a record that the next export cannot include."""
    clock.now = NOW.replace(hour=15)
    world.fill(starters(1, in_days=3))
    generate(s)
    check_export(s)
    assert is_open(s, AT_RISK)


def test_a_risk_that_was_averted_is_resolved(settings: Settings, embedded_tcs: World) -> None:
    clock = Clock(BEFORE)
    with working(settings, clock) as s:
        generate(s)
        at_risk(s, clock, embedded_tcs)
        export(s, "WES", new=True)
        check_export(s)
        assert closed(s, AT_RISK).resolution == Resolution.RESOLVED


def test_a_risk_that_came_true_is_expired_and_names_the_placement(
    settings: Settings, embedded_tcs: World
) -> None:
    clock = Clock(BEFORE)
    with working(settings, clock) as s:
        generate(s)
        at_risk(s, clock, embedded_tcs)
        clock.forward(days=1)
        generate(s)
        check_export(s)
        assert states(s) == {RecordState.DELETED_BEFORE_EXPORT: 1}
        alarm = closed(s, AT_RISK)
        assert alarm.resolution == Resolution.EXPIRED
        assert alarm.closing == "It became too late to send placement 1. Tell the trusts."


def test_a_risk_of_a_placement_that_was_withdrawn_is_superseded(
    settings: Settings, embedded_tcs: World
) -> None:
    clock = Clock(BEFORE)
    with working(settings, clock) as s:
        generate(s)
        at_risk(s, clock, embedded_tcs)
        embedded_tcs.execute(sa.delete(tcs.Placement))
        generate(s)
        check_export(s)
        alarm = closed(s, AT_RISK)
        assert alarm.resolution == Resolution.SUPERSEDED
        assert "placement 1" in str(alarm.closing)


def test_records_whose_data_is_never_corrected_expire(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(2, in_days=6)
    rows["ContactDetails"][1]["postCode"] = "nowhere"
    clock = Clock(BEFORE)
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW
        embedded_tcs.fill(rows)
        generate(s)
        clock.forward(days=2)
        generate(s)
        check_export(s)
        assert is_open(s, INVALID_RECORDS)
        clock.forward(days=2)
        generate(s)
        check_export(s)
        alarm = closed(s, INVALID_RECORDS)
        assert alarm.resolution == Resolution.EXPIRED
        assert "placement 2" in str(alarm.closing)
        assert "placement 1" not in str(alarm.closing)


@pytest.mark.parametrize(
    ("happens", "resolution"),
    [
        ("withdrawn", Resolution.SUPERSEDED),
        ("postponed", Resolution.SUPERSEDED),
        ("started", Resolution.EXPIRED),
        ("sent", Resolution.RESOLVED),
    ],
)
def test_a_placement_that_was_too_late_closes_as_what_became_of_it(
    settings: Settings, embedded_tcs: World, happens: str, resolution: Resolution
) -> None:
    clock = Clock(BEFORE)
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW
        embedded_tcs.fill(starters(1, in_days=1))
        generate(s)
        assert is_open(s, TOO_LATE)
        match happens:
            case "withdrawn":
                embedded_tcs.execute(sa.delete(tcs.Placement))
            case "postponed":
                embedded_tcs.execute(sa.update(tcs.Placement).values(dateFrom=TODAY + 30 * DAY))
            case "started":
                clock.forward(days=2)
            case "sent":
                embedded_tcs.fill(
                    {
                        "PlacementEsrEvent": [
                            {
                                "id": 1, "placementId": 1, "positionId": 50_000_010,
                                "positionNumber": 10, "filename": "x", "status": "EXPORTED",
                                "eventDateTime": NOW.replace(tzinfo=None),
                            }
                        ]
                    }
                )  # fmt: skip
        generate(s)
        alarm = closed(s, TOO_LATE)
        assert alarm.resolution == resolution
        if happens == "started":
            assert alarm.closing is not None
            assert "started on 2026-03-03" in alarm.closing
            assert "not informed" in alarm.closing


def test_records_stay_stuck_while_the_next_export_is_due(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock(NOW)
    with working(settings, clock) as s:
        generate(s)
        for day in (TODAY, TODAY + DAY):
            hold_commands(s, day)
        clock.now = due(FileType.APP, TODAY) + timedelta(minutes=31)
        check_export(s)
        assert is_open(s, STUCK)
        clock.now = due(FileType.APP, TODAY + DAY) + timedelta(minutes=5)
        check_export(s)
        assert is_open(s, STUCK)
        export(s, "WES", new=True)
        check_export(s)
        assert closed(s, STUCK).resolution == Resolution.RESOLVED


def test_the_file_of_the_next_day_does_not_resolve_a_missing_file(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill(starters(1))
    clock = Clock(NOW)
    with working(settings, clock) as s:
        generate(s)
        for day in (TODAY, TODAY + DAY):
            hold_commands(s, day)
        clock.now = due(FileType.APP, TODAY) + timedelta(minutes=31)
        check_export(s)
        texts = {alarm.subject: alarm.text for alarm in s.alarms.open_alarms(FILE_MISSING)}
        assert "no APP file for 2026-03-02" in texts["APP WES"]
        export(s, "LDN", day=TODAY)
        check_export(s)
        clock.now = due(FileType.APP, TODAY + DAY) + timedelta(minutes=5)
        export(s, "WES", day=TODAY + DAY)
        check_export(s)
        found = {a.subject: a for a in s.alarms.closed_alarms(100) if a.kind == FILE_MISSING}
        assert found["APP LDN"].resolution == Resolution.RESOLVED
        assert found["APP WES"].resolution == Resolution.SUPERSEDED
        assert "No file was written for 2026-03-02." in str(found["APP WES"].closing)


def test_a_record_that_was_never_part_of_the_alarm_does_not_change_why_it_closes(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(2)
    rows["ContactDetails"][0]["postCode"] = "nowhere"
    embedded_tcs.fill(rows)
    clock = Clock(NOW)
    with working(settings, clock) as s:
        generate(s)
        clock.forward(days=2)
        generate(s)
        check_export(s)
        assert is_open(s, INVALID_RECORDS)
        # The valid record is withdrawn, and the invalid one is corrected.
        embedded_tcs.execute(sa.delete(tcs.Placement).where(tcs.Placement.c.id == 2))
        embedded_tcs.execute(sa.update(tcs.ContactDetails).values(postCode="SW1A 1AA"))
        generate(s)
        check_export(s)
        assert closed(s, INVALID_RECORDS).resolution == Resolution.RESOLVED


def test_the_alarm_of_a_dead_command_is_about_one_that_is_still_dead(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.fill({"Placement": [placement(1, 1, 1, TODAY + 20 * DAY)]})
    folder = Path(settings.export().removeprefix("file://"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file instead of a folder")
    with working(settings) as s:
        (first,) = export(s, "WES", day=TODAY - DAY)
        (second,) = export(s, "WES", day=TODAY, key="second")
        (alarm,) = s.alarms.open_alarms()
        assert second.id[:8] in alarm.text
        folder.unlink()
        start_commands(s, [Commands(s.state).revive(second.id)])
        wait_until_ended(s, [second.id])
        (alarm,) = s.alarms.open_alarms()
        assert first.id[:8] in alarm.text
        assert f"for {TODAY - DAY} " in alarm.text
