"""Tonight: what runs, what ran, whether search is right, what needs a person."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tis_sync.runs.run import Options
from tis_sync.web import acts
from tis_sync.web.depends import Feeds, Servers, Updater, Viewer
from tis_sync.web.pages.common import Key, see
from tis_sync.web.picture import scaled
from tis_sync.web.templates import page, rendered
from tis_sync.web.tonight import tonight

router = APIRouter()


@router.get("/")
def show(request: Request, s: Servers, who: Viewer) -> HTMLResponse:
    """The page."""
    now = tonight(s, request.app.state.counts)
    return page(request, "tonight.html", who=who, t=now, scaled=scaled, may_update=who.can_update)


@router.get("/live/tonight", response_class=EventSourceResponse)
async def live(
    request: Request, s: Servers, who: Viewer, feeds: Feeds
) -> AsyncIterator[ServerSentEvent]:
    """The page's part that changes, whenever it has."""

    def part() -> str:
        now = tonight(s, request.app.state.counts)
        # No keys here: they differ each time. Who sends twice is told "Already running".
        return rendered(
            "_tonight.html", t=now, scaled=scaled, may_update=who.can_update, new_key=lambda: ""
        )

    async for html in feeds.follow(f"tonight/{who.can_update}", part):
        yield ServerSentEvent(event="tonight", raw_data=html)


@router.post("/night")
def run_night(s: Servers, who: Updater, key: Key = None) -> RedirectResponse:
    """Start the night."""
    return see(f"/sync/runs/{acts.run_night(s, who, Options(), key or None).id}")
