"""The checks of the running service: clock, schedules, last successes, open alarms."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from tis_sync.doctor.finding import DRIFTED, MISSING, OK, Finding
from tis_sync.durable.model import Schedule
from tis_sync.esr.applicants.generations import last_success
from tis_sync.esr.calendar import LONDON
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.services import Services
from tis_sync.workers.schedule import PREFIX, schedule_states

CLOCK_SECONDS = 30.0  # how far TCS's clock may differ from ours
SUCCESS_HOURS = 25.0  # a nightly job must have succeeded within a day and a late start
RECORDS_HOURS = 1.0  # records for ESR are refreshed four times an hour
NAMED = 3  # open alarms that a finding names
ALARMS = "alarms"  # the name of a check, and of its finding


def check_clock(s: Services) -> Iterator[Finding]:
    """Check that the time zone of ESR is known, and that our clock agrees with that of TCS."""
    now = s.clock()
    yield Finding("time zone", OK, f"London: {now.astimezone(LONDON):%Y-%m-%d %H:%M %Z}")
    if s.tcs().dialect == "sqlite" or s.settings.clock_offset_seconds:
        return
    with s.tcs().read() as connection:
        tcs_now: datetime = connection.exec_driver_sql("SELECT UTC_TIMESTAMP()").scalar_one()
    seconds = abs((tcs_now - now.replace(tzinfo=None)).total_seconds())
    message = f"{seconds:,.0f} s from TCS's clock"
    if seconds <= CLOCK_SECONDS:
        yield Finding("clock", OK, message)
    else:
        yield Finding("clock", DRIFTED, message, "synchronise the clocks of the machines (NTP)")


def check_schedules(schedules: Sequence[Schedule], s: Services) -> Iterator[Finding]:
    """Check that everything that must be scheduled is registered, and not paused."""
    expected = {schedule.name for schedule in schedules}
    states = schedule_states(s)
    missing = sorted(name.removeprefix(PREFIX) for name in expected - set(states))
    if missing:
        message = "none is registered" if len(missing) == len(expected) else ", ".join(missing)
        remedy = "start a worker: `tis-sync work` registers them"
        yield Finding("schedules", MISSING, message, remedy)
    paused = sorted(name for name in expected if states.get(name) == "PAUSED")
    for name in paused:
        job = name.removeprefix(PREFIX)
        remedy = f"unpause it: `tis-sync unpause {job}`"
        yield Finding(f"schedule {job}", DRIFTED, "is paused", remedy)
    if not missing and not paused:
        yield Finding("schedules", OK, f"{len(expected)} are registered")


def check_successes(s: Services) -> Iterator[Finding]:
    """Check when each job last succeeded, and when the records for ESR were refreshed."""
    for job in JOBS:
        last = s.history.last_success(job.name)
        at = None if last is None else last.created_at
        remedy = f"run the job: `tis-sync run {job.name}`"
        yield _success(s, job.name, "succeeded", at, SUCCESS_HOURS, remedy)
    if s.settings.esr:
        generation = last_success(s.state)
        at = None if generation is None else generation.started_at
        remedy = "refresh them with `tis-sync esr generate`, and check that a worker is running"
        yield _success(s, "records for ESR", "refreshed", at, RECORDS_HOURS, remedy)


def _success(
    s: Services, name: str, verb: str, at: datetime | None, hours: float, remedy: str
) -> Finding:
    if at is None:
        return Finding(name, MISSING, f"never {verb}", remedy)
    message = f"last {verb} {at:%Y-%m-%d %H:%M} UTC"
    if s.clock() - at <= timedelta(hours=hours):
        return Finding(name, OK, message)
    return Finding(name, DRIFTED, message, remedy)


def check_alarms(s: Services) -> Iterator[Finding]:
    """Check that no alarm is open."""
    alarms = s.alarms.open_alarms()
    if not alarms:
        yield Finding(ALARMS, OK, "none is open")
        return
    named = [f"{alarm.subject}: {alarm.kind.name}" for alarm in alarms[:NAMED]]
    if len(alarms) > NAMED:
        named.append(f"{len(alarms) - NAMED} more")
    message = f"{len(alarms)} open: {'; '.join(named)}"
    yield Finding(ALARMS, DRIFTED, message, "see them with `tis-sync status`")
