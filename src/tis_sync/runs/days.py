"""Which days a run is made for: what `--date` means, and how missed nights are made good."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from tis_sync.errors import UsageError
from tis_sync.jobs.base import AsOf, Job
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS

FORMS = "YYYY-MM-DD, ANY, NONE"


def as_of_for(
    job: Job,
    text: str | None,
    now: datetime,
    last_success: AsOf | None,
    override: str,
    longest_days: int,
) -> AsOf:
    """The dates of a run.

    Args:
        job: which job.
        text: what `--date` said; None: not given.
        now: the present moment.
        last_success: the dates of the job's last successful run; None: there was none.
        override: what NONE means: the setting `record_status_date_override`.
        longest_days: so many days are made good at the most.

    Returns:
        For a dated job, without `text`: every day after the last success up to today; today alone
        where there was no success yet. For other jobs: today.

    Raises:
        UsageError: the job takes no date, or the text is none of the accepted forms.

    """
    today = now.astimezone(UTC).date()
    if text is None:
        if not job.dated or last_success is None:
            return AsOf.on(today)
        first = min(today, last_success.last + timedelta(days=1))
        return AsOf(today, max(first, today - timedelta(days=longest_days)), today)
    if not job.dated:
        dated = " and ".join(other.name for other in JOBS if other.dated)
        raise UsageError(
            f"{job.name} takes no --date: it always makes today's state true. "
            f"Only {dated} take one."
        )
    words: Mapping[str, str] = {"any": "ANY", "none": "NONE"}
    word = words.get(text.strip().lower())
    if word is not None and job is not PERSON_RECORD_STATUS:
        raise UsageError(f"--date {text}: {job.name} takes a date of the form YYYY-MM-DD.")
    if word == "NONE":
        if override.upper() == "NONE":
            return AsOf.on(today)
        return as_of_for(job, override, now, last_success, "NONE", longest_days)
    if word == "ANY":
        return AsOf(today, today, today, every=True)
    day = _day(text, job)
    if day > today:
        raise UsageError(f"--date {text} lies in the future; today is {today} (UTC).")
    return AsOf(today, day, day)


def _day(text: str, job: Job) -> date:
    try:
        day = date.fromisoformat(text.strip())
        if text.strip() != day.isoformat():
            raise ValueError
    except ValueError:
        forms = FORMS if job is PERSON_RECORD_STATUS else "YYYY-MM-DD"
        raise UsageError(f"--date {text!r} is not a date; accepted are {forms}.") from None
    return day
