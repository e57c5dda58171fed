"""The deaneries, file types, days and times of the export: what is fixed, said once."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tis_sync.errors import UsageError

# In the order in which TIS hands numbers out.
DEANERIES = (
    "EMD", "KSS", "NTH", "WMD", "PEN", "NWN", "YHD", "EOE", "OXF", "WES", "LDN", "MER", "SEV",
)  # fmt: skip
LONDON = ZoneInfo("Europe/London")
APP, DNC, DNF = "APP", "DNC", "DNF"
FILE_TYPES: Mapping[str, str] = {"app": APP, "notification": DNC, "notification-full": DNF}
EXPORT_AT: Mapping[str, time] = {APP: time(14, 0), DNC: time(15, 0)}  # Europe/London


def london_day(now: datetime) -> date:
    """The date in London: the day that windows and file names count by."""
    return now.astimezone(LONDON).date()


def due(file_type: str, day: date) -> datetime:
    """When the export of a day is due, in UTC."""
    return datetime.combine(day, EXPORT_AT[file_type], LONDON).astimezone(UTC)


def next_due(file_type: str, now: datetime) -> datetime:
    """The next moment, after `now`, at which an export of that type is due, in UTC."""
    today = london_day(now)
    moment = due(file_type, today)
    return moment if moment > now else due(file_type, today + timedelta(days=1))


def last_due(file_type: str, now: datetime) -> datetime:
    """The last moment, not after `now`, at which an export of that type was due, in UTC."""
    today = london_day(now)
    moment = due(file_type, today)
    return moment if moment <= now else due(file_type, today - timedelta(days=1))


def deanery_named(text: str) -> str:
    """The deanery of that code; case does not matter.

    Raises:
        UsageError: there is none.

    """
    code = text.strip().upper()
    if code not in DEANERIES:
        raise UsageError(f"Unknown deanery {text!r}; there are {', '.join(DEANERIES)}.")
    return code


def file_type_named(text: str) -> str:
    """The file type that `app`, `notification` or `notification-full` means, or its code.

    Raises:
        UsageError: there is none.

    """
    found = FILE_TYPES.get(text.strip().lower(), text.strip().upper())
    if found not in FILE_TYPES.values():
        raise UsageError(f"Unknown file type {text!r}; there are {', '.join(FILE_TYPES)}.")
    return found
