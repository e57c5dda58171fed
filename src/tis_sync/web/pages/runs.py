"""Runs: the history; one run with its counts, plan and live log; cancel, resume, approve."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tis_sync import actions
from tis_sync.jobs.catalogue import JOB_BY_NAME, job_named
from tis_sync.runs.run import NIGHT
from tis_sync.runs.services import Services
from tis_sync.web.auth.identity import Caller
from tis_sync.web.dependencies import CallerLookup, LiveFeeds, RunId, Servers, Updater, Viewer
from tis_sync.web.feeds import while_allowed
from tis_sync.web.pages.common import TITLES, Key, redirect
from tis_sync.web.presenters.personal_data import seen_lines, seen_sample
from tis_sync.web.run_feed import RunSnapshot, follow_run, snapshot
from tis_sync.web.templates import page, rendered
from tis_sync.workers.cluster import TAKEN_OVER

router = APIRouter()
RUNS_LISTED = 50
SET_ASIDE_LISTED = 100


@router.get("/runs")
def index(
    request: Request, s: Servers, user: Viewer, job: str | None = None, after: str | None = None
) -> HTMLResponse:
    """The history, one page at a time."""
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    found = s.history.recent(RUNS_LISTED + 1, name, before=after)
    return page(
        request,
        "runs.html",
        user=user,
        job=name,
        runs=found[:RUNS_LISTED],
        titles=TITLES,
        next=found[RUNS_LISTED - 1].id if len(found) > RUNS_LISTED else None,
    )


@router.get("/runs/{run_id}")
def show(run_id: str, request: Request, s: Servers, user: Viewer) -> HTMLResponse:
    """One run."""
    current = snapshot(s, s.history.get(run_id).id)
    return page(request, "run.html", **_context(s, user, current, set()))


@router.get("/live/runs/{run_id}", response_class=EventSourceResponse)
async def live(
    run_id: RunId, s: Servers, user: Viewer, feeds: LiveFeeds, caller: CallerLookup
) -> AsyncIterator[ServerSentEvent]:
    """The part of the page about a run, whenever it has changed; `end` when the run has ended."""
    recorded: set[str] = set()
    async for current in while_allowed(follow_run(s, feeds, run_id), caller, user=user):
        context = await run_in_threadpool(_context, s, user, current, recorded)
        html = rendered("_run.html", **context)
        yield ServerSentEvent(event="run", raw_data=html)
        if current.has_ended:
            yield ServerSentEvent(event="end", raw_data="")


def _context(s: Services, user: Caller, current: RunSnapshot, recorded: set[str]) -> dict[str, Any]:
    """What the template shows. `recorded` are the looks at personal data that are recorded."""
    run = current.family[0]
    set_aside = s.history.set_aside(run.id)[:SET_ASIDE_LISTED] if run.set_aside else []
    return {
        "user": user,
        "snapshot": current,
        "run": run,
        "job": JOB_BY_NAME.get(run.job),
        "titles": TITLES,
        "sample": seen_sample(s, user, run, recorded),
        "set_aside": seen_lines(s, user, run, set_aside, recorded),
        "taken_over": any(line.text == TAKEN_OVER for line in current.log_lines),
    }


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: str, s: Servers, user: Updater) -> RedirectResponse:
    """Cancel a run."""
    return redirect(f"/sync/runs/{actions.cancel(s, user.actor, run_id).id}")


@router.post("/runs/{run_id}/resume")
def resume(run_id: str, s: Servers, user: Updater) -> RedirectResponse:
    """Resume a cancelled run."""
    return redirect(f"/sync/runs/{actions.resume(s, user.actor, run_id).id}")


@router.post("/runs/{run_id}/approve")
def approve(run_id: str, s: Servers, user: Updater, key: Key = None) -> RedirectResponse:
    """Apply a plan that the guard holds."""
    return redirect(f"/sync/runs/{actions.approve(s, user.actor, run_id, key or None).id}")
