"""Commands that start and control runs, and control schedules."""

from contextlib import suppress
from typing import Annotated

import typer

from tis_sync import actions, retention
from tis_sync.app import command_session
from tis_sync.cli.output import (
    Json,
    as_json,
    error,
    follow,
    print_line,
    run_errors,
    runs_table,
    table,
)
from tis_sync.cli.process import actor
from tis_sync.errors import AlreadyRunningError, HeldError, TisSyncError
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named, night_order
from tis_sync.runs.run import Run, RunOptions, RunState
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings
from tis_sync.workers.handover import is_interrupted

EXIT_CODES = {RunState.SUCCEEDED: 0, RunState.HELD: HeldError.exit_code}  # any other state: 1
SET_ASIDE_SHOWN = 10

Approve = Annotated[
    bool, typer.Option("--approve", help="Apply the plan that the guard held last.")
]
Jobs = Annotated[list[str] | None, typer.Argument(help="Jobs. Default: all.")]


def exit_code(run: Run) -> int:
    """The exit code of a command that followed a run."""
    return EXIT_CODES.get(run.state, 1)


def night(*, approve: Approve = False, json: Json = False) -> None:
    """Run every job once, in dependency order."""
    ended = follow_night(load_settings(), RunOptions(approve=approve), json=json)
    raise typer.Exit(exit_code(ended))


def follow_night(settings: Settings, options: RunOptions, *, json: bool = False) -> Run:
    """Run the night, print its runs and their errors, and return the night as it ended."""
    with command_session(settings) as s:
        ended = follow(s, actions.run_night(s, actor(), options).id, json=json)
        runs = s.history.children(ended.id)
        if json:
            as_json([ended, *runs])
        else:
            runs_table(runs)
            seconds = f" in {ended.seconds:.1f} s" if ended.seconds is not None else ""
            print_line(f"The night {ended.state}{seconds}.")
        with suppress(TisSyncError):  # it is logged, and tried again tomorrow
            retention.prune(s)
    run_errors(runs)
    return ended


def run(
    job: Annotated[str, typer.Argument(help="The job's name, key, or name in the Java service.")],
    *,
    date: Annotated[
        str | None,
        typer.Option(help="For dated jobs, the day to process: YYYY-MM-DD, ANY or NONE."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan; write nothing.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace the whole table, or build the whole index.")
    ] = False,
    approve: Approve = False,
    no_follow_ups: Annotated[
        bool, typer.Option("--no-follow-ups", help="Do not run the jobs that build on this one.")
    ] = False,
    json: Json = False,
) -> None:
    """Run one job and, if it changed something, its follow-ups."""
    settings = load_settings()
    (chosen,) = _named(settings, "run", [job])
    options = RunOptions(date, dry_run, rebuild, approve, follow_ups=not no_follow_ups)
    with command_session(settings) as s:
        ended = follow(s, _run_job(s, chosen, options, json=json).id, json=json)
        family = s.history.family(ended.id)
        if json:
            as_json(family)
        else:
            runs_table(family)
            if dry_run and ended.state == RunState.SUCCEEDED:
                _print_plan(ended)
            for record in s.history.set_aside(ended.id)[:SET_ASIDE_SHOWN]:
                error(f"set aside: {record}")
    run_errors(family)
    raise typer.Exit(exit_code(ended))


def _run_job(s: Services, job: Job, options: RunOptions, *, json: bool) -> Run:
    """Start a run; if one was interrupted and nobody resumes it, finish that first.

    Raises:
        AlreadyRunningError: another process carries out a run of the job.

    """
    while True:
        try:
            return actions.run_job(s, actor(), job, options)
        except AlreadyRunningError as failure:
            if failure.run_id is None:
                raise
            active = s.history.get(failure.run_id)
            if not active.is_active:
                continue  # it has just ended
            if not is_interrupted(s, active):
                raise
            error(f"{failure}. That run was interrupted and is resumed first.")
            follow(s, active.id, json=json)


def _print_plan(run: Run) -> None:
    print_line()
    print_line("Nothing was written. The first rows of each kind:")
    if not run.written:
        print_line("  none: there is nothing to do")
    for kind, rows in run.detail.sample.items():
        print_line(kind, "bold")
        for row in rows:
            print_line("  " + ", ".join(f"{k}={v}" for k, v in row.items()))


def verify(jobs: Jobs = None, *, json: Json = False) -> None:
    """Compare derived data with the desired state; write nothing. Exit code 1: they differ."""
    settings = load_settings()
    chosen = _named(settings, "run", jobs) if jobs else night_order()
    runs: list[Run] = []
    with command_session(settings) as s:
        for job in chosen:
            started = _run_job(s, job, RunOptions(dry_run=True), json=json)
            runs.append(follow(s, started.id, json=json))
    if json:
        as_json(runs)
    else:
        table(
            None,
            ("job", "state", "expected", "missing", "different", "surplus"),
            [(r.job, _comparison(r), r.considered, r.added, r.changed, r.removed) for r in runs],
        )
    run_errors(runs)
    raise typer.Exit(int(any(_comparison(run) != "correct" for run in runs)))


def _comparison(run: Run) -> str:
    if run.state != RunState.SUCCEEDED:
        return run.state
    return "differs" if run.written else "correct"


def cancel(
    run: Annotated[str, typer.Argument(help="The run's id, or a unique prefix of it.")],
) -> None:
    """Cancel a run, or a night with all its runs. What was applied stays applied."""
    cancelled = actions.cancel(Services(load_settings()), actor(), run)
    print_line(f"Run {cancelled.id[:8]} of {cancelled.job} is cancelled.")


def resume(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, or unique prefixes of them.")],
) -> None:
    """Start cancelled runs again, as of today; a worker carries them out."""
    s = Services(load_settings())
    for run in runs:
        resumed = actions.resume(s, actor(), run)
        print_line(f"Run {resumed.id[:8]} of {resumed.job} will be resumed by a worker.")


def pause(jobs: Jobs = None) -> None:
    """Pause schedules: the jobs no longer start automatically. You can still run them manually."""
    s = Services(load_settings())
    for job in _chosen(s.settings, "pause", jobs):
        actions.pause(s, actor(), job)
        print_line(f"The schedule of {job.name} is paused.")


def unpause(jobs: Jobs = None) -> None:
    """Unpause schedules: the jobs start automatically again."""
    s = Services(load_settings())
    for job in _chosen(s.settings, "unpause", jobs):
        actions.unpause(s, actor(), job)
        print_line(f"The schedule of {job.name} is active.")


def _chosen(settings: Settings, action: str, names: list[str] | None) -> list[Job]:
    return _named(settings, action, names) if names else list(JOBS)


def _named(settings: Settings, action: str, names: list[str]) -> list[Job]:
    """The jobs with these names; a name that is wrong is in the audit log.

    Raises:
        NotFoundError: there is no such job.

    """
    with actions.requested(Services(settings), actor(), action, " ".join(names)):
        return [job_named(name) for name in names]
