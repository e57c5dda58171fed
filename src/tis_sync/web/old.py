"""The three calls of the Java service's page, exactly as they were, so that scripts go on working.

GET /api/jobs/status     {jobKey: true|false}: does it run?
PUT /api/job/{jobKey}    {"status": "Just started"} or {"status": "Already running"};
                         400 {"error": "Job not found"} for an unknown key
PUT /api/jobs            runs all of them in sequence; answers as for one
"""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tis_sync.errors import AlreadyRunningError, UsageError
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.run import NIGHT, Options
from tis_sync.web import acts
from tis_sync.web.depends import Servers, Updater, Viewer
from tis_sync.web.problems import PROBLEMS

router = APIRouter(prefix="/api", tags=["the old calls"], responses=PROBLEMS)
STARTED, RUNNING = {"status": "Just started"}, {"status": "Already running"}


@router.get("/jobs/status")
def status(s: Servers, _: Viewer) -> dict[str, bool]:
    """Tell of each job whether it runs."""
    active = {run.job for run in s.history.all_active()}
    return {job.key: job.name in active for job in JOBS}


class Old(BaseModel):
    """What the old page's scripts read."""

    status: str


class OldError(BaseModel):
    """How the old page told an error."""

    error: str


@router.put("/job/{key}", response_model=Old, responses={400: {"model": OldError}})
def run_job(key: str, s: Servers, who: Updater) -> JSONResponse:
    """Start a job, unless it runs."""
    try:
        job = job_named(key)
    except UsageError:
        return JSONResponse({"error": "Job not found"}, HTTPStatus.BAD_REQUEST)
    try:
        acts.run_job(s, who, job, Options())
    except AlreadyRunningError:
        return JSONResponse(RUNNING)
    return JSONResponse(STARTED)


@router.put("/jobs")
def run_all(s: Servers, who: Updater) -> dict[str, str]:
    """Start the night, unless it runs."""
    if s.history.active(NIGHT) is not None:
        return RUNNING
    acts.run_night(s, who, Options())
    return STARTED
