"""When jobs start automatically: their schedules, and the night that a starting worker runs."""

from datetime import datetime, time, timedelta

from sqlalchemy.exc import DBAPIError

from tis_sync.db.driver_errors import as_transient_error
from tis_sync.durable.model import Schedule
from tis_sync.durable.tables import client
from tis_sync.errors import UsageError
from tis_sync.execution.workflow import RUN_SCHEDULED, start_night
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.request import request_night
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

PREFIX = "tis_sync."  # begins the names of our schedules in DBOS


def times(settings: Settings) -> dict[str, time]:
    """The time of day (UTC) of each job by name: the job's own, or the one in the settings.

    Raises:
        UsageError: the setting names an unknown job, or has a time not of the form HH:MM.

    """
    chosen = {job.name: job.at for job in JOBS}
    for name, text in settings.night_times.items():
        job = job_named(name)
        try:
            hours, minutes = text.split(":")
            chosen[job.name] = time(int(hours), int(minutes))
        except ValueError:
            raise UsageError(
                f"TIS_SYNC_NIGHT_TIMES: {name}: {text!r} is not a time of the form HH:MM."
            ) from None
    return chosen


def last_time(at: time, now: datetime) -> datetime:
    """The last occurrence of a time of day (UTC), up to and including `now`."""
    today = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def is_between(hour: int, hours: tuple[int, int]) -> bool:
    """Whether an hour of the day is in a span of hours.

    Args:
        hour: from 0 to 23.
        hours: the first hour of the span, and the hour before which it ends. If the first is the
            later one, the span goes across midnight; if they are equal, it is empty.

    """
    first, before = hours
    if first <= before:
        return first <= hour < before
    return hour >= first or hour < before


def schedule_name(job: Job) -> str:
    """The name of a job's schedule in DBOS."""
    return PREFIX + job.name


def job_schedules(settings: Settings) -> list[Schedule]:
    """The schedules of all jobs."""
    return [
        Schedule(PREFIX + name, RUN_SCHEDULED, f"{at.minute} {at.hour} * * *", name)
        for name, at in times(settings).items()
    ]


def start_night_if_due(s: Services) -> str | None:
    """Start the night if it is now between the hours in the settings.

    Returns:
        The id of the night, or None if it was not started.

    """
    if not is_between(s.clock().hour, s.settings.night_start_hours):
        return None
    options = RunOptions()
    night = request_night(s, trigger=Trigger.START, requested_by=s.worker_id, options=options)
    start_night(s, night.id)
    return night.id


def pause(services: Services, job: Job) -> None:
    """Pause the schedule of a job, so that it no longer starts automatically.

    Raises:
        UsageError: no worker has ever registered schedules here.

    """
    with client(services.settings) as dbos:
        _require_schedule(services, job)
        dbos.pause_schedule(schedule_name(job))


def unpause(services: Services, job: Job) -> None:
    """Unpause the schedule of a job.

    Raises:
        UsageError: no worker has ever registered schedules here.

    """
    with client(services.settings) as dbos:
        _require_schedule(services, job)
        dbos.resume_schedule(schedule_name(job))


def _require_schedule(services: Services, job: Job) -> None:
    if schedule_name(job) not in schedule_states(services):
        raise UsageError(
            "No schedules are registered yet. They are registered when `tis-sync work` first "
            "starts."
        )


def schedule_states(services: Services) -> dict[str, str]:
    """The states of our registered schedules by name: ACTIVE or PAUSED.

    Raises:
        UnreachableError: the state database does not answer.

    """
    with client(services.settings) as dbos:
        try:
            found = dbos.list_schedules(schedule_name_prefix=PREFIX)
        except DBAPIError as error:
            if (transient := as_transient_error(error)) is not None:
                raise transient from error
            return {}  # no worker has run here yet, so DBOS has no tables
    return {str(schedule["schedule_name"]): str(schedule["status"]) for schedule in found}


def paused_jobs(services: Services) -> frozenset[str]:
    """The names of the jobs whose schedule is paused."""
    states = schedule_states(services)
    return frozenset(name.removeprefix(PREFIX) for name in states if states[name] == "PAUSED")
