"""Jobs: list, run, pause and unpause them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from tis_sync import actions
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named, upstream
from tis_sync.runs.run import RunOptions
from tis_sync.web.api.schemas import Key, RunDetails, run_details
from tis_sync.web.dependencies import Servers, Updater
from tis_sync.web.problems import PROBLEMS
from tis_sync.workers.schedule import paused_jobs, times

router = APIRouter(tags=["jobs"], responses=PROBLEMS)


class JobDetails(BaseModel):
    """A job: what it does, when it starts, what it waits for, what follows it."""

    name: str
    key: str = Field(description="The name in the Java service's calls.")
    description: str
    at: str = Field(description="The time of day at which it starts: HH:MM, UTC.")
    paused: bool = Field(description="Whether its schedule is paused.")
    takes_date: bool
    waits_for: list[str] = Field(description="Jobs that run before it.")
    follow_ups: list[str] = Field(description="Jobs that run after it if it changed something.")
    last_run: RunDetails | None


class RunRequest(BaseModel):
    """How to run a job."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dry_run": True}, {"date": "2026-07-31"}]}
    )

    date: str | None = Field(
        None,
        max_length=20,
        description="The day whose changes to apply: YYYY-MM-DD; ANY for every record; NONE for "
        "the day that the setting names. Default: every day since the last success.",
    )
    dry_run: bool = Field(False, description="Plan, write nothing.")
    rebuild: bool = Field(False, description="Replace the whole table, or build a new index.")
    approve: bool = Field(
        False, description="Apply the plan that the guard held last. 400 if none is held."
    )
    follow_ups: bool = Field(
        True, description="Run the jobs that follow this one, if it changed something."
    )

    def options(self) -> RunOptions:
        """Return the options of the run."""
        return RunOptions(**self.model_dump())


class NightRequest(BaseModel):
    """How to run the night."""

    model_config = ConfigDict(extra="forbid")

    approve: bool = Field(False, description="Apply the plans that the guard held last.")


@router.get("/jobs")
def jobs(s: Servers) -> list[JobDetails]:
    """All jobs, in the order of their times."""
    paused, at = paused_jobs(s), times(s.settings)
    return [_details(s, job, f"{at[job.name]:%H:%M}", paused=job.name in paused) for job in JOBS]


@router.get("/jobs/{name}")
def job(name: str, s: Servers) -> JobDetails:
    """A job, by its name, its key, or its name in the Java service."""
    return _one(s, job_named(name))


@router.post("/jobs/{name}/runs", status_code=HTTPStatus.ACCEPTED)
def start_run(
    name: str,
    s: Servers,
    user: Updater,
    request: Annotated[RunRequest | None, Body()] = None,
    key: Key = None,
) -> RunDetails:
    """Run a job. 409 if it has an active run."""
    options = (request or RunRequest()).options()
    return run_details(actions.run_job(s, user.actor, name, options, key))


@router.post("/night", status_code=HTTPStatus.ACCEPTED)
def start_night(
    s: Servers,
    user: Updater,
    request: Annotated[NightRequest | None, Body()] = None,
    key: Key = None,
) -> RunDetails:
    """Run every job once, in the order of their dependencies. Returns the active night, if any."""
    options = RunOptions(approve=(request or NightRequest()).approve)
    return run_details(actions.run_night(s, user.actor, options, key))


@router.post("/jobs/{name}/pause")
def pause(name: str, s: Servers, user: Updater) -> JobDetails:
    """Pause the schedule of a job. It can still be run manually."""
    return _one(s, actions.pause(s, user.actor, name))


@router.post("/jobs/{name}/unpause")
def unpause(name: str, s: Servers, user: Updater) -> JobDetails:
    """Unpause the schedule of a job."""
    return _one(s, actions.unpause(s, user.actor, name))


def _one(s: Servers, job: Job) -> JobDetails:
    at = f"{times(s.settings)[job.name]:%H:%M}"
    return _details(s, job, at, paused=job.name in paused_jobs(s))


def _details(s: Servers, job: Job, at: str, *, paused: bool) -> JobDetails:
    last = s.history.last(job.name)
    return JobDetails(
        name=job.name,
        key=job.key,
        description=job.description,
        at=at,
        paused=paused,
        takes_date=job.dated,
        waits_for=sorted(upstream(job)),
        follow_ups=list(job.follow_ups),
        last_run=None if last is None else run_details(last),
    )
