"""When jobs run by themselves: their times, as DBOS schedules, and the night at a start."""

from datetime import datetime, time, timedelta

from dbos import DBOS, ScheduleInput

from tis_sync.errors import AlreadyRunningError, UsageError
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import BY_NAME, JOBS, job_named
from tis_sync.logs import get
from tis_sync.runs.ask import ask, ask_for_night
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.run import Options
from tis_sync.runs.services import Services, services
from tis_sync.runs.step import step
from tis_sync.runs.workflows import RUNS_QUEUE, start, start_night
from tis_sync.settings import Settings

PREFIX = "tis_sync."  # of the names of our schedules in DBOS


def times(settings: Settings) -> dict[str, time]:
    """The time of day, UTC, of each job: the job's own, or the setting's.

    Raises:
        UsageError: the setting names an unknown job, or a time not of the form HH:MM.

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
    """The last moment, not after `now`, at which a daily time of day (UTC) came."""
    today = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def schedule_name(job: Job) -> str:
    """The name of a job's schedule in DBOS."""
    return PREFIX + job.name


def register(settings: Settings) -> None:
    """Create or update the schedules of all jobs; one that is paused stays paused."""
    schedules: list[ScheduleInput] = [
        {
            "schedule_name": schedule_name(BY_NAME[name]),
            "workflow_fn": scheduled,
            "schedule": f"{at.minute} {at.hour} * * *",
            "context": name,
            "queue_name": RUNS_QUEUE,
        }
        for name, at in times(settings).items()
    ]
    for made in REGISTRY.schedules:
        schedules += made(settings)
    DBOS.apply_schedules(schedules)


@DBOS.workflow(name="tis_sync.scheduled")
def scheduled(_at: datetime, job_name: str) -> None:
    """A job's time has come. DBOS starts this once a time, however many workers there are."""
    start(ask_scheduled(job_name))


@step
def ask_scheduled(job_name: str) -> list[str]:
    """Ask for a scheduled run; none if one is active already."""
    s = services()
    try:
        run = ask(s, BY_NAME[job_name], trigger="schedule", who="schedule", options=Options())
    except AlreadyRunningError as error:
        get().info("not started", job=job_name, reason=str(error))
        return []
    return [run.id]


def night_at_start(s: Services) -> str | None:
    """Start the night if this process started in the hours of the setting; returns its run id."""
    first, before = s.settings.night_start_hours
    if not first <= s.clock().hour < before:
        return None
    night = ask_for_night(s, trigger="start", who=s.worker_id, options=Options())
    start_night(night.id)
    return night.id
