"""The days and times of the export: London's, over both changes of its clocks."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import (
    APP,
    DNC,
    deanery_named,
    due,
    file_type_named,
    last_due,
    london_day,
    next_due,
)
from tis_sync.esr.destination import shown
from tis_sync.esr.eligible import earliest_start, latest_start
from tis_sync.esr.files import file_name


@pytest.mark.parametrize("change", [date(2026, 3, 29), date(2026, 10, 25)])
def test_over_a_change_of_clocks_there_is_one_export_a_day_at_14_local(change: date) -> None:
    moment = datetime(change.year, change.month, change.day, tzinfo=UTC) - timedelta(days=2)
    seen: list[datetime] = []
    for _ in range(4):
        moment = next_due(APP, moment)
        seen.append(moment)
    days = [london_day(at) for at in seen]
    assert days == [change + timedelta(days=n) for n in (-2, -1, 0, 1)]
    from zoneinfo import ZoneInfo

    local = [at.astimezone(ZoneInfo("Europe/London")) for at in seen]
    assert {f"{at:%H:%M}" for at in local} == {"14:00"}
    assert len({f"{at:%H:%M}" for at in seen}) == 2


def test_the_last_and_the_next_export_meet() -> None:
    at = due(DNC, date(2026, 7, 30))
    assert at == datetime(2026, 7, 30, 14, 0, tzinfo=UTC)
    assert last_due(DNC, at) == at
    assert next_due(DNC, at) == at + timedelta(days=1)
    assert next_due(DNC, at - timedelta(seconds=1)) == at
    assert last_due(DNC, at - timedelta(seconds=1)) == at - timedelta(days=1)


def test_the_day_is_londons() -> None:
    assert london_day(datetime(2026, 7, 30, 23, 30, tzinfo=UTC)) == date(2026, 7, 31)
    assert london_day(datetime(2026, 1, 30, 23, 30, tzinfo=UTC)) == date(2026, 1, 30)


def test_a_placement_of_30_july_at_17_for_4_august_can_go_on_31_july() -> None:
    start = date(2026, 8, 4)
    assert earliest_start(date(2026, 7, 31)) <= start <= latest_start(date(2026, 7, 31))
    assert start < earliest_start(date(2026, 8, 2))


def test_names_of_files_deaneries_and_types() -> None:
    assert file_name("WES", APP, date(2026, 3, 2), 42) == "DE_WES_APP_20260302_00000042.DAT"
    assert deanery_named(" wes") == "WES"
    assert [file_type_named(t) for t in ("app", "notification", "dnf")] == ["APP", "DNC", "DNF"]
    with pytest.raises(UsageError, match="Unknown deanery 'XXX'; there are EMD, KSS"):
        deanery_named("XXX")
    with pytest.raises(UsageError, match="Unknown file type 'x'; there are app"):
        file_type_named("x")


def test_a_password_in_a_destination_is_never_shown() -> None:
    assert shown("sftp://user:secret@host:22/in") == "sftp://user:***@host:22/in"
    assert shown("s3://bucket/in") == "s3://bucket/in"
