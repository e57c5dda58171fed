"""Silence is failure: alarms for what should have gone to ESR and did not.

A generation opens the alarm "too late", and a failed command opens "export failed"; all other
alarms of the export are opened and closed here. Scheduled commands that were never requested,
because no worker was alive when they were due, are also requested here.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from tis_sync.alarms.catalogue import (
    AT_RISK,
    FILE_MISSING,
    INVALID_RECORDS,
    RECORDS_STALE,
    STUCK,
    TCS_NOT_UPDATED,
    AlarmKind,
)
from tis_sync.esr.applicants.generations import first_generation_at, last_success
from tis_sync.esr.calendar import EXPORT_AT, due, last_due, london_day
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.closings import UNKNOWN, closing_of_file, closing_of_records
from tis_sync.esr.export.commands import Commands
from tis_sync.esr.export.workflow import request_day, start_commands
from tis_sync.esr.records import RecordState, records_at_risk
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t
from tis_sync.state.clock import CLOCK_TOLERANCE

FILE_MINUTES = 30  # every deanery's file must be written this long after it was due
INVALID_HOURS = 24
REPORT_MINUTES = 60  # an export must be reported to TCS this long after its file was written
STALE_FACTOR = 4  # records are stale after this many intervals without a generation
GRACE_FACTOR = 2  # a worker that has just started has this many intervals for its first generation
NAMED = 5  # placements that an alarm names; all of them are counted


def check_export(s: Services) -> None:
    """Request missed commands; open and close the alarms of the export."""
    if not s.settings.esr:
        return
    now = s.clock()
    began = first_generation_at(s.state)
    if began is None:
        return
    for file_type in EXPORT_AT:
        catch_up(s, file_type, now, began)
        _check_files(s, file_type, now, began)
    _check_generations(s, now)
    _check_at_risk(s, now)
    _check_stuck(s, now, began)
    _check_invalid(s, now)
    _check_reports(s, now)


def catch_up(s: Services, file_type: FileType, now: datetime, began: datetime) -> None:
    """Request today's commands if their time has passed and nothing has requested them.

    Args:
        s: settings, clock and servers.
        file_type: the type of the files.
        now: the current time.
        began: when this installation began to export.

    """
    today = london_day(now)
    moment = due(file_type, today)
    if moment > now or moment < began:
        return
    keys = [f"{file_type}/{deanery}/{today}" for deanery in DEANERIES]
    if len(Commands(s.state).with_key(keys)) < len(keys):
        start_commands(s, request_day(s, file_type, today, Trigger.CATCH_UP, s.worker_id))


def _check_files(s: Services, file_type: FileType, now: datetime, began: datetime) -> None:
    """Check that every deanery has its file; files without records are written too."""
    moment = last_due(file_type, now)
    day = london_day(moment)
    statement = sa.select(t.file.c.deanery).where(
        t.file.c.file_type == file_type,
        t.file.c.day == day,
        t.file.c.written_at.is_not(None),
    )
    with s.state.read() as connection:
        written = set(connection.scalars(statement))
    is_late = now >= moment + timedelta(minutes=FILE_MINUTES) and moment >= began
    name = file_type.option
    opened = {alarm.subject: alarm for alarm in s.alarms.open_alarms(FILE_MISSING)}
    for deanery in DEANERIES:
        subject = f"{file_type} {deanery}"
        if deanery in written:
            if alarm := opened.get(subject):
                closing = closing_of_file(s.state, file_type, deanery, alarm)
                s.alarms.close(FILE_MISSING, subject, now, closing)
        elif is_late:
            details = (
                f"{deanery} has no {file_type} file for {day}; it was due at {moment:%H:%M} UTC."
            )
            s.alarms.open(FILE_MISSING, subject, details, now, deanery=deanery, type=name, day=day)


def _check_generations(s: Services, now: datetime) -> None:
    last = last_success(s.state)
    longest = timedelta(minutes=STALE_FACTOR * s.settings.esr_generate_minutes)
    if last is not None and last.started_at >= now - longest:
        s.alarms.close(RECORDS_STALE, "records", now)
        return
    # After a restart the first refresh is yet to come.
    if now < s.started_at + timedelta(minutes=GRACE_FACTOR * s.settings.esr_generate_minutes):
        return
    details = "The records for ESR have never been refreshed."
    if last is not None:
        details = f"The records for ESR were last refreshed {last.started_at:%Y-%m-%d %H:%M} UTC."
    s.alarms.open(RECORDS_STALE, "records", details, now)


def _check_at_risk(s: Services, now: datetime) -> None:
    at_risk: Mapping[str, list[str]] = defaultdict(list)
    for record in records_at_risk(s.state, now):
        name = f"placement {record.placement_id} (starts {record.start})"
        at_risk[record.deanery or UNKNOWN].append(name)
    _update_alarms(
        s,
        AT_RISK,
        (RecordState.TO_EXPORT, RecordState.INVALID_DATA),
        at_risk,
        now,
        lambda deanery, count: f"The next export is too late for {count} of {deanery}",
    )


def _check_stuck(s: Services, now: datetime, began: datetime) -> None:
    """Check for records that existed when an export was due and are still TO_EXPORT."""
    # Until the files of today may be late, the export that counts is yesterday's.
    moment = last_due(FileType.APP, now - timedelta(minutes=FILE_MINUTES))
    stuck: Mapping[str, list[str]] = defaultdict(list)
    if moment >= began:
        columns = (t.record.c.deanery, t.record.c.placement_id, t.record.c.postponed)
        statement = sa.select(*columns).where(
            t.record.c.state == RecordState.TO_EXPORT,
            t.record.c.changed_at < moment - CLOCK_TOLERANCE,
        )
        with s.state.read() as connection:
            for deanery, placement, postponed in connection.execute(statement):
                name = f"placement {placement}" + (" (postponed)" if postponed else "")
                stuck[deanery].append(name)
    _update_alarms(
        s,
        STUCK,
        (RecordState.TO_EXPORT,),
        stuck,
        now,
        lambda deanery, count: (
            f"The export of {moment:%Y-%m-%d %H:%M} UTC did not send {count} of {deanery}"
        ),
    )


def _check_invalid(s: Services, now: datetime) -> None:
    # The reasons quote values, which are personal data: they are not for channels and the log.
    statement = sa.select(t.record.c.deanery, t.record.c.placement_id).where(
        t.record.c.state == RecordState.INVALID_DATA,
        t.record.c.changed_at < now - timedelta(hours=INVALID_HOURS),
    )
    invalid: Mapping[str, list[str]] = defaultdict(list)
    with s.state.read() as connection:
        for deanery, placement in connection.execute(statement):
            invalid[deanery or UNKNOWN].append(f"placement {placement}")
    _update_alarms(
        s,
        INVALID_RECORDS,
        (RecordState.INVALID_DATA,),
        invalid,
        now,
        lambda deanery, count: f"{deanery} has {count} with INVALID_DATA for more than a day",
    )


def _check_reports(s: Services, now: datetime) -> None:
    statement = sa.select(t.file.c.name, t.file.c.written_at).where(
        t.file.c.reported_at.is_(None),
        t.file.c.written_at < now - timedelta(minutes=REPORT_MINUTES),
    )
    with s.state.read() as connection:
        unreported = {row.name: row.written_at for row in connection.execute(statement)}
    for name, written_at in unreported.items():
        details = (
            f"{name} was sent to ESR at {written_at:%Y-%m-%d %H:%M} UTC, but this has not been "
            "reported to TCS."
        )
        s.alarms.open(TCS_NOT_UPDATED, name, details, now)
    s.alarms.close_others(TCS_NOT_UPDATED, unreported, now)


def _update_alarms(
    s: Services,
    kind: AlarmKind,
    states: Collection[RecordState],
    names: Mapping[str, list[str]],
    now: datetime,
    sentence: Callable[[str, str], str],
) -> None:
    """Open one alarm for each deanery with records, and close the alarms of the others.

    Args:
        s: settings, clock and servers.
        kind: the kind of alarm.
        states: the states of the records that it is about.
        names: the names of the records of each deanery.
        now: the current time.
        sentence: says what is wrong, given the deanery and "N records".

    """
    for deanery, named in names.items():
        count = f"{len(named)} record" + ("" if len(named) == 1 else "s")
        text = ", ".join(named[:NAMED])
        if len(named) > NAMED:
            text += f", and {len(named) - NAMED} more"
        s.alarms.open(kind, deanery, f"{sentence(deanery, count)}: {text}.", now)
    s.alarms.close_others(kind, names, now, partial(closing_of_records, s.state, states))
