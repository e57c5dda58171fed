"""Days are written YYYY-MM-DD, with a year of four digits, in every place that accepts one."""

from datetime import date, datetime
from typing import Any

import pydantic
import pytest

from tests.conftest import NOW
from tis_sync.errors import UsageError
from tis_sync.esr.messaging.contract import AppFileCommand, AppRecord
from tis_sync.iso_day import IsoDay, iso_day
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.runs.request import as_of_for
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings
from tis_sync.web.api.esr import ExportRequest

# Python, pydantic or both read each of these as a day; "0020" is a year of two digits.
WRONG: list[Any] = [
    "20260301", "2026-W09-7", "0020-11-25", "0001-01-01", "+2026-03-01", "2026-3-1", "0", "1.5",
    " 2026-03-01", "2026-03-01\n", "2026-03-01T00:00:00", "2026-03-01T00:00:00Z", "٢٠٢٦-٠٣-٠١",
    "2026-02-30", "2026-13-01", "12026-03-01", "",
]  # fmt: skip
NO_TEXT: list[Any] = [0, 1, 20260301, 1.5, True, [], datetime(2026, 3, 1)]  # noqa: DTZ001


def test_the_accepted_form_is_read() -> None:
    assert iso_day("2026-03-01") == date(2026, 3, 1)
    assert iso_day("1000-01-01") == date(1000, 1, 1)
    assert iso_day("9999-12-31") == date(9999, 12, 31)


@pytest.mark.parametrize("text", WRONG)
def test_any_other_text_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM-DD") as raised:
        iso_day(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("value", [*WRONG, *NO_TEXT])
def test_a_request_a_message_and_a_command_line_refuse_it(value: Any) -> None:
    with pytest.raises(pydantic.ValidationError):
        ExportRequest.model_validate({"day": value})
    with pytest.raises(pydantic.ValidationError):
        AppFileCommand.model_validate({"deanery": "WES", "date": value or 0})
    record = {"placementId": 1, "positionId": 2, "positionNumber": 3}
    with pytest.raises(pydantic.ValidationError):
        AppRecord.model_validate(record | {"projectedHireDate": value})
    for field in ("projectedEndDate", "effectiveDate", "dob"):
        whole = record | {"projectedHireDate": "2026-03-01", field: value or 0}
        with pytest.raises(pydantic.ValidationError):
            AppRecord.model_validate(whole)
    if isinstance(value, str):
        with pytest.raises(UsageError, match="is not a date; the accepted forms are YYYY-MM-DD"):
            as_of_for(POST_FUNDING_STATUS, value, NOW, None, "NONE", 400)


@pytest.mark.parametrize("value", [text for text in WRONG if text.strip() == text and text])
def test_a_setting_refuses_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in ("RECORD_STATUS_DATE_OVERRIDE", "ESR_NOTIFICATIONS_SINCE"):
        with monkeypatch.context() as patch:
            patch.setenv(f"TIS_SYNC_{name}", value)
            with pytest.raises(UsageError, match=f"TIS_SYNC_{name}.*YYYY-MM-DD"):
                load_settings()


def test_dates_of_programs_are_accepted_as_they_are() -> None:
    day = date(2026, 3, 1)
    assert Settings(esr_notifications_since=day).esr_notifications_since == day
    assert pydantic.TypeAdapter(IsoDay).validate_python(day) == day
    assert ExportRequest(day=day).day == day
