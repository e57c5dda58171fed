"""The days and times of the export follow London, even when the clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tis_sync.errors import UsageError
from tis_sync.esr.calendar import (
    LONDON,
    due,
    earliest_start,
    last_due,
    latest_start,
    london_day,
    next_due,
)
from tis_sync.esr.deaneries import FileType, deanery_named, file_type_named
from tis_sync.esr.files.numbering import file_name
from tis_sync.urls import redacted_url


@pytest.mark.parametrize("change", [date(2026, 3, 29), date(2026, 10, 25)])
def test_when_the_clocks_change_there_is_one_export_a_day_at_14_00_local_time(change: date) -> None:
    moment = datetime(change.year, change.month, change.day, tzinfo=UTC) - timedelta(days=2)
    exports: list[datetime] = []
    for _ in range(4):
        moment = next_due(FileType.APP, moment)
        exports.append(moment)
    days = [london_day(at) for at in exports]
    assert days == [change + timedelta(days=n) for n in (-2, -1, 0, 1)]
    local = [at.astimezone(LONDON) for at in exports]
    assert {f"{at:%H:%M}" for at in local} == {"14:00"}
    assert len({f"{at:%H:%M}" for at in exports}) == 2


def test_the_last_export_is_directly_before_the_next_one() -> None:
    at = due(FileType.DNC, date(2026, 7, 30))
    assert at == datetime(2026, 7, 30, 14, 0, tzinfo=UTC)
    assert last_due(FileType.DNC, at) == at
    assert next_due(FileType.DNC, at) == at + timedelta(days=1)
    assert next_due(FileType.DNC, at - timedelta(seconds=1)) == at
    assert last_due(FileType.DNC, at - timedelta(seconds=1)) == at - timedelta(days=1)


def test_the_day_is_the_date_in_london() -> None:
    assert london_day(datetime(2026, 7, 30, 23, 30, tzinfo=UTC)) == date(2026, 7, 31)
    assert london_day(datetime(2026, 1, 30, 23, 30, tzinfo=UTC)) == date(2026, 1, 30)


def test_a_placement_entered_on_30_july_for_4_august_can_be_exported_on_31_july() -> None:
    start = date(2026, 8, 4)
    assert earliest_start(date(2026, 7, 31)) <= start <= latest_start(date(2026, 7, 31))
    assert start < earliest_start(date(2026, 8, 2))


def test_files_deaneries_and_file_types_have_names() -> None:
    assert (
        file_name("WES", FileType.APP, date(2026, 3, 2), 42) == "DE_WES_APP_20260302_00000042.DAT"
    )
    assert deanery_named(" wes") == "WES"
    assert [file_type_named(t) for t in ("app", "notification", "dnf")] == ["APP", "DNC", "DNF"]
    with pytest.raises(UsageError, match="Unknown deanery 'XXX'; the deaneries are EMD, KSS"):
        deanery_named("XXX")
    with pytest.raises(UsageError, match="Unknown file type 'x'; the file types are app"):
        file_type_named("x")


def test_a_password_in_a_destination_is_never_shown() -> None:
    assert redacted_url("sftp://user:secret@host:22/in") == "sftp://user:***@host:22/in"
    assert redacted_url("s3://bucket/in") == "s3://bucket/in"
