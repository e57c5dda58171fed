"""Runs: history, log, plan, live events; cancel, resume and approve."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from tis_sync import actions
from tis_sync.errors import UsageError
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.run import NIGHT, LogLine
from tis_sync.web.api.schemas import (
    PAGE,
    After,
    Key,
    Limit,
    Page,
    RunDetails,
    run_details,
)
from tis_sync.web.dependencies import (
    LARGEST_INTEGER,
    CallerLookup,
    LiveFeeds,
    RunId,
    Servers,
    Updater,
    Viewer,
)
from tis_sync.web.feeds import while_allowed
from tis_sync.web.presenters.personal_data import seen_sample
from tis_sync.web.problems import PROBLEMS
from tis_sync.web.run_feed import follow_run

router = APIRouter(tags=["runs"], responses=PROBLEMS)


class PlanDetails(BaseModel):
    """What a dry run would write."""

    run: RunDetails
    added: int | None
    changed: int | None
    removed: int | None
    sample: dict[str, list[dict[str, Any]]] = Field(
        description="The first records that would be added, changed and removed."
    )


@router.get("/runs")
def runs(
    s: Servers, job: str | None = None, limit: Limit = PAGE, after: After = None
) -> Page[RunDetails]:
    """Runs, newest first."""
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    found = s.history.recent(limit + 1, name, before=after)
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=[run_details(run) for run in found[:limit]], next=more)


@router.get("/runs/{run_id}")
def run(run_id: str, s: Servers) -> RunDetails:
    """A run, by its id or the first characters of its id."""
    return run_details(s.history.get(run_id))


@router.get("/runs/{run_id}/family")
def family(run_id: str, s: Servers) -> list[RunDetails]:
    """A run, the runs that it requested, and those that they requested."""
    return [run_details(run) for run in s.history.family(s.history.get(run_id).id)]


@router.get("/runs/{run_id}/log")
def log(
    run_id: str,
    s: Servers,
    after: Annotated[int, Query(ge=0, lt=LARGEST_INTEGER, description="The id of a line.")] = 0,
) -> list[LogLine]:
    """The log of a run: the lines after the one with the id `after`."""
    return s.history.lines(s.history.get(run_id).id, after)


@router.get("/runs/{run_id}/plan")
def plan(run_id: str, s: Servers, user: Viewer) -> PlanDetails:
    """What a dry run would write. Start a run with `dry_run` to get a plan.

    Texts in the sample that may be personal data need the role personal.
    """
    found = s.history.get(run_id)
    if not found.options.dry_run:
        raise UsageError(f"Run {found.id[:8]} is not a dry run. Start one with dry_run.")
    return PlanDetails(
        run=run_details(found),
        added=found.added,
        changed=found.changed,
        removed=found.removed,
        sample=seen_sample(s, user, found),
    )


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def events(
    run_id: RunId, s: Servers, user: Viewer, feeds: LiveFeeds, caller: CallerLookup
) -> AsyncIterator[ServerSentEvent]:
    """Follow a run: events `run` for it and its follow-ups, `line` for its log, then `end`.

    Without `end`, the connection was lost, or the caller may no longer follow it.
    """
    sent: dict[str, RunDetails] = {}
    last_line = 0
    async for snapshot in while_allowed(follow_run(s, feeds, run_id), caller, user=user):
        for details in map(run_details, snapshot.family):
            if sent.get(details.id) != details:
                sent[details.id] = details
                yield ServerSentEvent(event="run", data=details)
        for line in snapshot.log_lines:
            if line.id > last_line:
                last_line = line.id
                yield ServerSentEvent(event="line", data=line)
        if snapshot.has_ended:
            yield ServerSentEvent(event="end", data=snapshot.family[0].state)
            return


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: str, s: Servers, user: Updater) -> RunDetails:
    """Cancel a run, or a night with all its runs. What was applied stays applied."""
    return run_details(actions.cancel(s, user.actor, run_id))


@router.post("/runs/{run_id}/resume", status_code=HTTPStatus.ACCEPTED)
def resume(run_id: str, s: Servers, user: Updater) -> RunDetails:
    """Start a cancelled run again, as of today; it writes only what is left."""
    return run_details(actions.resume(s, user.actor, run_id))


@router.post("/runs/{run_id}/approve", status_code=HTTPStatus.ACCEPTED)
def approve(run_id: str, s: Servers, user: Updater, key: Key = None) -> RunDetails:
    """Run a job again whose plan the guard holds, and apply the plan. Returns the new run."""
    return run_details(actions.approve(s, user.actor, run_id, key))
