"""Jobs: what there is, and to start, pause and unpause them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named, upstream
from tis_sync.runs import control
from tis_sync.runs.run import Options
from tis_sync.runs.schedule import times
from tis_sync.web import acts
from tis_sync.web.api.shown import Key, RunShown, shown
from tis_sync.web.depends import Servers, Updater
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["jobs"], responses=PROBLEMS)


class JobShown(BaseModel):
    """A job: what it makes true, when it starts by itself, what it waits for, what follows."""

    name: str
    key: str
    makes: str
    at: str
    paused: bool
    takes_date: bool
    waits_for: list[str]
    follow_ups: list[str]
    last: RunShown | None


class Wanted(BaseModel):
    """How a run is wanted."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dry_run": True}, {"date": "2026-07-31"}]}
    )

    date: str | None = Field(
        None, max_length=20, description="Which day to make good: YYYY-MM-DD, ANY or NONE."
    )
    dry_run: bool = Field(False, description="Plan and show, write nothing.")
    rebuild: bool = Field(False, description="Replace the whole table, or build the whole index.")
    approve: bool = Field(False, description="Let the plan through that the guard would hold.")
    follow_ups: bool = Field(True, description="Run what follows, if something changed.")

    def options(self) -> Options:
        """The same, for the run."""
        return Options(**self.model_dump())


class NightWanted(BaseModel):
    """How a night is wanted."""

    model_config = ConfigDict(extra="forbid")

    approve: bool = Field(False, description="Let plans through that the guard would hold.")


@router.get("/jobs")
def jobs(s: Servers) -> list[JobShown]:
    """All jobs, in the order in which their times come."""
    paused, at = control.paused(s), times(s.settings)
    return [_job(s, job, f"{at[job.name]:%H:%M}", paused=job.name in paused) for job in JOBS]


@router.get("/jobs/{name}")
def job(name: str, s: Servers) -> JobShown:
    """One job, by its name, its key, or what the Java service called it."""
    return _one(s, job_named(name))


@router.post("/jobs/{name}/runs", status_code=HTTPStatus.ACCEPTED)
def start_run(
    name: str,
    s: Servers,
    who: Updater,
    wanted: Annotated[Wanted | None, Body()] = None,
    key: Key = None,
) -> RunShown:
    """Start a run of a job; 409 where one is active."""
    options = (wanted or Wanted()).options()
    return shown(acts.run_job(s, who, job_named(name), options, key))


@router.post("/night", status_code=HTTPStatus.ACCEPTED)
def start_night(
    s: Servers, who: Updater, wanted: Annotated[NightWanted | None, Body()] = None, key: Key = None
) -> RunShown:
    """Run every job once, in dependency order; a night that is active is answered instead."""
    options = Options(approve=(wanted or NightWanted()).approve)
    return shown(acts.run_night(s, who, options, key))


@router.post("/jobs/{name}/pause")
def pause(name: str, s: Servers, who: Updater) -> JobShown:
    """Stop a job from starting by itself; by hand it still runs."""
    found = job_named(name)
    acts.pause(s, who, found, on=True)
    return _one(s, found)


@router.post("/jobs/{name}/unpause")
def unpause(name: str, s: Servers, who: Updater) -> JobShown:
    """Let a paused job start by itself again."""
    found = job_named(name)
    acts.pause(s, who, found, on=False)
    return _one(s, found)


def _one(s: Servers, job: Job) -> JobShown:
    at = f"{times(s.settings)[job.name]:%H:%M}"
    return _job(s, job, at, paused=job.name in control.paused(s))


def _job(s: Servers, job: Job, at: str, *, paused: bool) -> JobShown:
    last = s.history.last(job.name)
    return JobShown(
        name=job.name,
        key=job.key,
        makes=job.makes,
        at=at,
        paused=paused,
        takes_date=job.dated,
        waits_for=sorted(upstream(job)),
        follow_ups=list(job.follow_ups),
        last=None if last is None else shown(last),
    )
