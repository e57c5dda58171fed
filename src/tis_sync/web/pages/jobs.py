"""A job: what it makes true, its last runs, and buttons to run, try, approve, pause it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from tis_sync.jobs.base import TableProduct
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs import control
from tis_sync.runs.run import Options
from tis_sync.runs.schedule import times
from tis_sync.web import acts
from tis_sync.web.depends import Servers, Updater, Viewer
from tis_sync.web.pages.common import KEYS, TITLES, Key, Ticked, see
from tis_sync.web.picture import scaled
from tis_sync.web.templates import page

router = APIRouter(prefix="/jobs")
RUNS_DRAWN, RUNS_LISTED = 40, 10


@router.get("/{name}")
def show(name: str, request: Request, s: Servers, who: Viewer) -> HTMLResponse:
    """The page."""
    job = job_named(name)
    runs = s.history.recent(RUNS_DRAWN, job.name)
    real = [run for run in runs if not run.options.dry_run]
    bars = [run for run in reversed(real) if run.seconds is not None]
    product = job.product
    return page(
        request,
        "job.html",
        who=who,
        job=job,
        title=TITLES[job.name],
        titles=TITLES,
        keys=KEYS,
        at=f"{times(s.settings)[job.name]:%H:%M}",
        paused=job.name in control.paused(s),
        held=real[0] if real and real[0].state == "held" else None,
        active=next((run for run in runs if run.is_active), None),
        can_rebuild=not (isinstance(product, TableProduct) and product.target.columns_only),
        bars=bars,
        longest=max((run.seconds or 0.0 for run in bars), default=0.0),
        scaled=scaled,
        runs=runs[:RUNS_LISTED],
    )


@router.post("/{name}/run")
def run(
    name: str,
    s: Servers,
    who: Updater,
    date: Annotated[str | None, Form(max_length=20)] = None,
    dry_run: Ticked = False,
    rebuild: Ticked = False,
    key: Key = None,
) -> RedirectResponse:
    """Start a run, and show it."""
    options = Options(date or None, dry_run, rebuild)
    return see(f"/sync/runs/{acts.run_job(s, who, job_named(name), options, key or None).id}")


@router.post("/{name}/pause")
def pause(name: str, s: Servers, who: Updater) -> RedirectResponse:
    """Stop it from starting by itself."""
    acts.pause(s, who, job_named(name), on=True)
    return see(f"/sync/jobs/{job_named(name).key}")


@router.post("/{name}/unpause")
def unpause(name: str, s: Servers, who: Updater) -> RedirectResponse:
    """Let it start by itself again."""
    acts.pause(s, who, job_named(name), on=False)
    return see(f"/sync/jobs/{job_named(name).key}")
