"""Which days a run covers."""

from datetime import UTC, date, datetime

import pytest

from tis_sync.errors import UsageError
from tis_sync.jobs.base import AsOf, Job
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.runs.request import as_of_for

NOW = datetime(2026, 3, 2, 23, 59, tzinfo=UTC)
TODAY = NOW.date()
LAST = date(2026, 2, 26)


def days(
    text: str | None = None,
    job: Job = PERSON_RECORD_STATUS,
    last: date | None = None,
    override: str = "NONE",
    longest: int = 400,
) -> AsOf:
    return as_of_for(job, text, NOW, last, override, longest)


def test_without_a_date_every_day_since_the_last_success_is_covered() -> None:
    assert days(last=LAST) == AsOf(TODAY, date(2026, 2, 27), TODAY)
    assert days(last=LAST, job=POST_FUNDING_STATUS) == AsOf(TODAY, date(2026, 2, 27), TODAY)
    assert days(last=LAST, longest=2) == AsOf(TODAY, date(2026, 2, 28), TODAY)


def test_a_second_run_of_a_day_and_the_first_run_ever_cover_today() -> None:
    assert days() == AsOf.on(TODAY)
    assert days(last=TODAY) == AsOf.on(TODAY)


def test_undated_jobs_always_cover_today() -> None:
    assert days(last=LAST, job=PERSON_OWNER) == AsOf.on(TODAY)
    with pytest.raises(UsageError, match="takes no --date"):
        days("2026-01-01", PERSON_OWNER)


def test_a_given_day_is_repeated_with_today_as_the_as_of_date() -> None:
    assert days("2026-01-05") == AsOf(TODAY, date(2026, 1, 5), date(2026, 1, 5))
    assert days("2026-01-05").ended_first == date(2026, 1, 4)


@pytest.mark.parametrize("text", ["any", "ANY", "Any"])
def test_any_includes_every_person(text: str) -> None:
    assert days(text) == AsOf(TODAY, TODAY, TODAY, every=True)


def test_none_means_the_configured_override() -> None:
    assert days("none") == AsOf.on(TODAY)
    assert days("NONE", override="any").every
    assert days("NONE", override="2026-02-01").first == date(2026, 2, 1)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-2-1", "02/03/2026", "2026-02-30"])
def test_any_other_text_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(UsageError, match="YYYY-MM-DD, ANY, NONE"):
        days(text)


def test_the_future_is_refused() -> None:
    with pytest.raises(UsageError, match="is in the future; today is 2026-03-02"):
        days("2026-03-03")
