"""The three calls of the Java service's page, unchanged, so that existing scripts still work.

GET /api/jobs/status     {jobKey: true|false}: whether each job is running
PUT /api/job/{jobKey}    {"status": "Just started"} or {"status": "Already running"};
                         400 {"error": "Job not found"} for an unknown key
PUT /api/jobs            starts all jobs in sequence; answers as for one
"""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tis_sync import actions
from tis_sync.errors import AlreadyRunningError, NotFoundError
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT, RunOptions
from tis_sync.web.dependencies import Servers, Updater, Viewer
from tis_sync.web.problems import PROBLEMS

router = APIRouter(prefix="/api", tags=["Java service"], responses=PROBLEMS)
STARTED, RUNNING = {"status": "Just started"}, {"status": "Already running"}


@router.get("/jobs/status")
def status(s: Servers, _: Viewer) -> dict[str, bool]:
    """Whether each job is running, by its key."""
    active = {run.job for run in s.history.all_active()}
    return {job.key: job.name in active for job in JOBS}


class LegacyStatus(BaseModel):
    """What scripts of the old page read."""

    status: str


class LegacyError(BaseModel):
    """How the old page reported an error."""

    error: str


@router.put("/job/{key}", response_model=LegacyStatus, responses={400: {"model": LegacyError}})
def run_job(key: str, s: Servers, user: Updater) -> JSONResponse:
    """Start a job, unless it is running."""
    try:
        actions.run_job(s, user.actor, key, RunOptions())
    except NotFoundError:
        return JSONResponse({"error": "Job not found"}, HTTPStatus.BAD_REQUEST)
    except AlreadyRunningError:
        return JSONResponse(RUNNING)
    return JSONResponse(STARTED)


@router.put("/jobs")
def run_all(s: Servers, user: Updater) -> dict[str, str]:
    """Start the night, unless it is running."""
    if s.history.active(NIGHT) is not None:
        return RUNNING
    actions.run_night(s, user.actor, RunOptions())
    return STARTED
