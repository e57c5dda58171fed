"""The days and times of the export: when it is due, and which start dates it can include."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tis_sync.esr.deaneries import FileType

LONDON = ZoneInfo("Europe/London")
# Times of day, Europe/London. DNF files are made on request only.
EXPORT_AT: Mapping[FileType, time] = {FileType.APP: time(14, 0), FileType.DNC: time(15, 0)}
LEAD_DAYS = 2  # a placement that starts in this many days or fewer is too late for ESR
WINDOW_WEEKS = 13


def london_day(now: datetime) -> date:
    """The date in London: windows and file names use this day."""
    return now.astimezone(LONDON).date()


def due(file_type: FileType, day: date) -> datetime:
    """When the export of a day is due, in UTC."""
    return datetime.combine(day, EXPORT_AT[file_type], LONDON).astimezone(UTC)


def next_due(file_type: FileType, now: datetime) -> datetime:
    """The first time after `now` at which an export of this type is due, in UTC."""
    today = london_day(now)
    moment = due(file_type, today)
    return moment if moment > now else due(file_type, today + timedelta(days=1))


def last_due(file_type: FileType, now: datetime) -> datetime:
    """The last time up to and including `now` at which an export of this type was due, in UTC."""
    today = london_day(now)
    moment = due(file_type, today)
    return moment if moment <= now else due(file_type, today - timedelta(days=1))


def earliest_start(day: date) -> date:
    """The first start date that an export on a day can include."""
    return day + timedelta(days=LEAD_DAYS + 1)


def latest_start(day: date) -> date:
    """The last start date that an export on a day can include."""
    return day + timedelta(weeks=WINDOW_WEEKS, days=-1)
