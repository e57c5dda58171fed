"""Runs: history, log, what a plan would write; cancel, resume, approve, follow."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tis_sync.errors import UsageError
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.run import NIGHT, Line
from tis_sync.web import acts
from tis_sync.web.api.shown import PAGE, Key, Limit, Page, PlanShown, RunShown, shown
from tis_sync.web.depends import Feeds, RunId, Servers, Updater
from tis_sync.web.follow import following
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["runs"], responses=PROBLEMS)


@router.get("/runs")
def runs(
    s: Servers,
    job: str | None = None,
    limit: Limit = PAGE,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> Page[RunShown]:
    """Runs, newest first."""
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    found = s.history.recent(limit + 1, name, before=after)
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=[shown(run) for run in found[:limit]], next=more)


@router.get("/runs/{run_id}")
def run(run_id: str, s: Servers) -> RunShown:
    """One run, by its id or the beginning of it."""
    return shown(s.history.get(run_id))


@router.get("/runs/{run_id}/family")
def family(run_id: str, s: Servers) -> list[RunShown]:
    """A run, the runs that it asked for, and theirs."""
    return [shown(run) for run in s.history.family(s.history.get(run_id).id)]


@router.get("/runs/{run_id}/log")
def log(
    run_id: str,
    s: Servers,
    after: Annotated[int, Query(ge=0, lt=2**63, description="The id of a line.")] = 0,
) -> list[Line]:
    """The log of a run: the lines behind the one with id `after`."""
    return s.history.lines(s.history.get(run_id).id, after)


@router.get("/runs/{run_id}/plan")
def plan(run_id: str, s: Servers) -> PlanShown:
    """What a dry run would write. To make one: start a run with `dry_run`."""
    found = s.history.get(run_id)
    if not found.options.dry_run:
        raise UsageError(f"Run {found.id[:8]} is no dry run; start one with dry_run.")
    return PlanShown(
        run=shown(found),
        added=found.added,
        changed=found.changed,
        removed=found.removed,
        rows=found.detail,
    )


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def events(run_id: RunId, s: Servers, live: Feeds) -> AsyncIterator[ServerSentEvent]:
    """Follow a run live: `run` for it and each that follows it, `line` for its log, then `end`."""
    sent: dict[str, RunShown] = {}
    last_line = 0
    async for seen in following(s, live, run_id):
        for one in map(shown, seen.family):
            if sent.get(one.id) != one:
                sent[one.id] = one
                yield ServerSentEvent(event="run", data=one)
        for line in seen.lines:
            if line.id > last_line:
                last_line = line.id
                yield ServerSentEvent(event="line", data=line)
        if seen.ended:
            yield ServerSentEvent(event="end", data=seen.family[0].state)
            return


@router.post("/runs/{run_id}/cancel")
def cancel(run_id: str, s: Servers, who: Updater) -> RunShown:
    """Stop a run, or a night with all its runs; what was applied stays applied."""
    return shown(acts.cancel(s, who, run_id))


@router.post("/runs/{run_id}/resume", status_code=HTTPStatus.ACCEPTED)
def resume(run_id: str, s: Servers, who: Updater) -> RunShown:
    """Let a cancelled run go on from its last finished step."""
    return shown(acts.resume(s, who, run_id))


@router.post("/runs/{run_id}/approve", status_code=HTTPStatus.ACCEPTED)
def approve(run_id: str, s: Servers, who: Updater, key: Key = None) -> RunShown:
    """Run again what the guard held, and let its plan through; answers the new run."""
    return shown(acts.approve(s, who, run_id, key))
