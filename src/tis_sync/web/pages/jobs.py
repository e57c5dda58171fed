"""A job: what it does, its last runs, and buttons to run, dry run, approve and pause it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from tis_sync import actions
from tis_sync.jobs.base import TableTarget
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.run import RunOptions, RunState
from tis_sync.web.dependencies import Servers, Updater, Viewer
from tis_sync.web.pages.common import KEYS, TITLES, Checkbox, Key, redirect
from tis_sync.web.presenters.charts import scaled
from tis_sync.web.templates import page
from tis_sync.workers.schedule import paused_jobs, times

router = APIRouter(prefix="/jobs")
RUNS_DRAWN, RUNS_LISTED = 40, 10


@router.get("/{name}")
def show(name: str, request: Request, s: Servers, user: Viewer) -> HTMLResponse:
    """The page."""
    job = job_named(name)
    runs = s.history.recent(RUNS_DRAWN, job.name)
    real = [run for run in runs if not run.options.dry_run]
    bars = [run for run in reversed(real) if run.seconds is not None]
    target = job.target
    return page(
        request,
        "job.html",
        user=user,
        job=job,
        title=TITLES[job.name],
        titles=TITLES,
        keys=KEYS,
        at=f"{times(s.settings)[job.name]:%H:%M}",
        paused=job.name in paused_jobs(s),
        held=real[0] if real and real[0].state == RunState.HELD else None,
        active=next((run for run in runs if run.is_active), None),
        can_rebuild=not (isinstance(target, TableTarget) and target.spec.columns_only),
        bars=bars,
        longest=max((run.seconds or 0.0 for run in bars), default=0.0),
        scaled=scaled,
        runs=runs[:RUNS_LISTED],
    )


@router.post("/{name}/run")
def run(
    name: str,
    s: Servers,
    user: Updater,
    date: Annotated[str | None, Form(max_length=20)] = None,
    dry_run: Checkbox = False,
    rebuild: Checkbox = False,
    key: Key = None,
) -> RedirectResponse:
    """Run the job, and show the run."""
    options = RunOptions(date or None, dry_run, rebuild)
    started = actions.run_job(s, user.actor, name, options, key or None)
    return redirect(f"/sync/runs/{started.id}")


@router.post("/{name}/pause")
def pause(name: str, s: Servers, user: Updater) -> RedirectResponse:
    """Pause the schedule of the job."""
    job = actions.pause(s, user.actor, name)
    return redirect(f"/sync/jobs/{job.key}")


@router.post("/{name}/unpause")
def unpause(name: str, s: Servers, user: Updater) -> RedirectResponse:
    """Unpause the schedule of the job."""
    job = actions.unpause(s, user.actor, name)
    return redirect(f"/sync/jobs/{job.key}")
