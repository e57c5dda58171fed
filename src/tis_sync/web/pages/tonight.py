"""Tonight: what needs attention, the jobs of this night, and the search indexes."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tis_sync import actions
from tis_sync.runs.run import RunOptions
from tis_sync.web.dependencies import CallerLookup, LiveFeeds, Servers, Updater, Viewer
from tis_sync.web.feeds import while_allowed
from tis_sync.web.pages.common import Key, redirect
from tis_sync.web.presenters.charts import scaled
from tis_sync.web.presenters.tonight import tonight
from tis_sync.web.templates import page, rendered

router = APIRouter()


@router.get("/")
def show(request: Request, s: Servers, user: Viewer) -> HTMLResponse:
    """The page."""
    now = tonight(s, request.app.state.index_counts)
    return page(request, "tonight.html", user=user, t=now, scaled=scaled)


@router.get("/live/tonight", response_class=EventSourceResponse)
async def live(
    request: Request, s: Servers, user: Viewer, feeds: LiveFeeds, caller: CallerLookup
) -> AsyncIterator[ServerSentEvent]:
    """The part of the page that changes, whenever it has changed."""

    def part() -> str:
        now = tonight(s, request.app.state.index_counts)
        # The part must not contain random keys, or it would always differ from before. Without a
        # key, a form that is sent twice is answered with "Already running".
        return rendered("_tonight.html", user=user, t=now, scaled=scaled, new_key=lambda: "")

    parts = feeds.follow(f"tonight/{user.can_update}", part)
    async for html in while_allowed(parts, caller, user=user):
        yield ServerSentEvent(event="tonight", raw_data=html)


@router.post("/night")
def run_night(s: Servers, user: Updater, key: Key = None) -> RedirectResponse:
    """Run the night."""
    run = actions.run_night(s, user.actor, RunOptions(), key or None)
    return redirect(f"/sync/runs/{run.id}")
