"""Runs: the history; one run with its counts, plan and live log; cancel, go on, approve."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tis_sync.jobs.catalogue import BY_NAME, job_named
from tis_sync.runs.run import NIGHT
from tis_sync.runs.services import Services
from tis_sync.runs.workers import HANDED_ON
from tis_sync.web import acts
from tis_sync.web.depends import Feeds, RunId, Servers, Updater, Viewer
from tis_sync.web.follow import Seen, following, seen_now
from tis_sync.web.pages.common import TITLES, Key, see
from tis_sync.web.templates import page, rendered
from tis_sync.web.who import Caller

router = APIRouter()
RUNS_LISTED = 50
SET_ASIDE_LISTED = 100


@router.get("/runs")
def index(
    request: Request, s: Servers, who: Viewer, job: str | None = None, after: str | None = None
) -> HTMLResponse:
    """The history, a page at a time."""
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    found = s.history.recent(RUNS_LISTED + 1, name, before=after)
    return page(
        request,
        "runs.html",
        who=who,
        job=name and TITLES.get(name, "the night"),
        runs=found[:RUNS_LISTED],
        titles=TITLES,
        next=found[RUNS_LISTED - 1].id if len(found) > RUNS_LISTED else None,
    )


@router.get("/runs/{run_id}")
def show(run_id: str, request: Request, s: Servers, who: Viewer) -> HTMLResponse:
    """One run."""
    seen = seen_now(s, s.history.get(run_id).id)
    return page(request, "run.html", who=who, **_told(s, who, seen))


@router.get("/live/runs/{run_id}", response_class=EventSourceResponse)
async def live(
    run_id: RunId, s: Servers, who: Viewer, feeds: Feeds
) -> AsyncIterator[ServerSentEvent]:
    """What the page says of a run, whenever that has changed; "end" when it has ended."""
    async for seen in following(s, feeds, run_id):
        html = rendered("_run.html", **_told(s, who, seen))
        yield ServerSentEvent(event="run", raw_data=html)
    yield ServerSentEvent(event="end", raw_data="")


def _told(s: Services, who: Caller, seen: Seen) -> dict[str, Any]:
    run = seen.family[0]
    return {
        "seen": seen,
        "run": run,
        "job": BY_NAME.get(run.job),
        "titles": TITLES,
        "may_update": who.can_update,
        "set_aside": s.history.set_aside(run.id)[:SET_ASIDE_LISTED] if run.set_aside else [],
        "taken_over": any(line.text == HANDED_ON for line in seen.lines),
    }


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: str, s: Servers, who: Updater) -> RedirectResponse:
    """Stop a run."""
    return see(f"/sync/runs/{acts.cancel(s, who, run_id).id}")


@router.post("/runs/{run_id}/resume")
def resume(run_id: str, s: Servers, who: Updater) -> RedirectResponse:
    """Let a cancelled run go on."""
    return see(f"/sync/runs/{acts.resume(s, who, run_id).id}")


@router.post("/runs/{run_id}/approve")
def approve(run_id: str, s: Servers, who: Updater, key: Key = None) -> RedirectResponse:
    """Let a held plan through."""
    return see(f"/sync/runs/{acts.approve(s, who, run_id, key or None).id}")
