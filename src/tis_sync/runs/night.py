"""The steps of a whole night: ask for every job, and end when all have ended."""

import time

from tis_sync.errors import AlreadyRunningError
from tis_sync.jobs.catalogue import night_order
from tis_sync.runs.ask import ask
from tis_sync.runs.run import NIGHT, Options, State
from tis_sync.runs.services import services
from tis_sync.runs.step import step
from tis_sync.runs.steps import TURN_SECONDS


@step
def ask_for_night(night_id: str) -> list[str]:
    """Ask for a run of every job, in an order in which upstream jobs come first."""
    s = services()
    night = s.history.get(night_id)
    s.history.begin(night_id, s.clock())
    known = {run.job: run.id for run in s.history.children(night_id)}
    options = Options(approve=night.options.approve, rebuild=False)
    for job in night_order():
        if job.name in known:
            continue
        try:
            run = ask(s, job, trigger=NIGHT, who=night.who, options=options, parent=night_id)
            known[job.name] = run.id
        except AlreadyRunningError as error:
            if error.run_id is not None:
                known[job.name] = error.run_id
    return list(known.values())


@step
def finish_night(night_id: str, run_ids: list[str]) -> str:
    """End a night when all its runs have ended: it succeeded if all of them did."""
    s = services()
    runs = s.history.many(run_ids)
    while any(run.is_active for run in runs):
        if not s.history.get(night_id).is_active:
            return "cancelled"
        time.sleep(TURN_SECONDS)
        runs = s.history.many(run_ids)
    bad = [run for run in runs if run.state != "succeeded"]
    state: State = "succeeded"
    if bad:
        # What was not run because a job is held counts as that: it is one decision to take.
        failed = any(run.state == "failed" for run in bad)
        state = "held" if not failed and any(run.state == "held" for run in bad) else "failed"
    error = "; ".join(f"{run.job} {run.state}" for run in bad) or None
    totals = {
        name: sum(getattr(run, name) or 0 for run in runs)
        for name in ("considered", "added", "changed", "removed", "set_aside")
    }
    s.history.note(night_id, **totals)
    s.history.end(night_id, state, s.clock(), error)
    s.workspaces.drop(night_id)
    s.history.prune(s.clock(), s.settings.history_days)
    return state
