"""API, version 1: looking. Everything that the command line shows, as JSON."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tis_sync.doctor import Finding, examine
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named, upstream
from tis_sync.runs import control
from tis_sync.runs.run import Run
from tis_sync.runs.schedule import times
from tis_sync.web.depends import Servers
from tis_sync.web.old import key_of

router = APIRouter(prefix="/api/v1")
PAGE, LARGEST_PAGE = 50, 500


class RunShown(BaseModel):
    """A run. Counts are null before they are known; moments are UTC."""

    id: str
    job: str
    state: str
    trigger: str
    who: str
    parent: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    phase: str | None
    partitions: int | None
    partitions_done: int
    considered: int | None
    added: int | None
    changed: int | None
    removed: int | None
    set_aside: int | None
    dry_run: bool
    error: str | None


class JobShown(BaseModel):
    """A job: when it starts by itself, what it waits for, what follows, its last run."""

    name: str
    key: str
    at: str
    paused: bool
    waits_for: list[str]
    follow_ups: list[str]
    last: RunShown | None


class LineShown(BaseModel):
    """A line of a run's log."""

    id: int
    at: datetime
    level: str
    text: str


class AlarmShown(BaseModel):
    """An alarm that is open: what it means, and what mends it."""

    kind: str
    subject: str
    text: str
    raised_at: datetime
    run_id: str | None


def shown(run: Run) -> RunShown:
    """A run as the API tells it."""
    return RunShown(**asdict(run), seconds=run.seconds, dry_run=run.options.dry_run)


@router.get("/jobs", tags=["jobs"])
def jobs(s: Servers) -> list[JobShown]:
    """All jobs, in the order in which their times come."""
    paused, at = control.paused(s), times(s.settings)
    return [_job(s, job, f"{at[job.name]:%H:%M}", paused=job.name in paused) for job in JOBS]


@router.get("/jobs/{name}", tags=["jobs"])
def job(name: str, s: Servers) -> JobShown:
    """One job, by its name, its key, or what the Java service called it."""
    found = job_named(name)
    at = f"{times(s.settings)[found.name]:%H:%M}"
    return _job(s, found, at, paused=found.name in control.paused(s))


def _job(s: Servers, job: Job, at: str, *, paused: bool) -> JobShown:
    last = s.history.last(job.name)
    return JobShown(
        name=job.name,
        key=key_of(job),
        at=at,
        paused=paused,
        waits_for=sorted(upstream(job)),
        follow_ups=list(job.follow_ups),
        last=None if last is None else shown(last),
    )


@router.get("/runs", tags=["runs"])
def runs(
    s: Servers,
    job: str | None = None,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
) -> list[RunShown]:
    """Runs, newest first."""
    name = None if job is None else job_named(job).name
    return [shown(run) for run in s.history.recent(limit, name)]


@router.get("/runs/{run_id}", tags=["runs"])
def run(run_id: str, s: Servers) -> RunShown:
    """One run, by its id or the beginning of it."""
    return shown(s.history.get(run_id))


@router.get("/runs/{run_id}/log", tags=["runs"])
def log(run_id: str, s: Servers, after: int = 0) -> list[LineShown]:
    """The log of a run: the lines behind the one with id `after`."""
    found = s.history.get(run_id)
    return [LineShown(**asdict(line)) for line in s.history.lines(found.id, after)]


@router.get("/alarms", tags=["health"])
def alarms(s: Servers) -> list[AlarmShown]:
    """The alarms that are open, oldest first."""
    return [AlarmShown(**asdict(alarm)) for alarm in s.alarms.open()]


@router.get("/doctor", tags=["health"])
def doctor(s: Servers) -> list[dict[str, Any]]:
    """The checklist of everything that the service relies on; looks at it now."""
    found: list[Finding] = examine(s)
    return [asdict(finding) for finding in found]
