"""Commands that do something: the demo, runs, the worker, and steering."""

import sys
import time
from typing import Annotated

import typer

from tis_sync import __version__, console, logs
from tis_sync.cli.app import EXIT_OF_STATE, Json, app, leave, until_told_to_stop, who
from tis_sync.cli.esr import demo_export
from tis_sync.cli.looking import search_and_show
from tis_sync.console import as_json, out, table
from tis_sync.errors import UsageError
from tis_sync.jobs.catalogue import JOBS, job_named, night_order
from tis_sync.jobs.leftovers import left_by_old_service
from tis_sync.runs import control
from tis_sync.runs.ask import ask, ask_for_night
from tis_sync.runs.run import Options, Run
from tis_sync.runs.schedule import times
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.runs.workflows import start, start_night
from tis_sync.settings import Settings, load_settings
from tis_sync.tcs import demo as demo_data

DEMO_PEOPLE = 20_000


@app.command()
def demo(
    *,
    people: Annotated[int, typer.Option(min=1, help="How many persons to make up.")] = DEMO_PEOPLE,
    seed: Annotated[int, typer.Option(help="Another seed makes other data.")] = 1,
    data_only: Annotated[bool, typer.Option(help="Make the data, run nothing.")] = False,
    as_old_service_left: Annotated[
        bool,
        typer.Option(help="Fill the derived tables as the Java service left them, or not at all."),
    ] = True,
) -> None:
    """Make a synthetic TCS (once), run the whole night on it, search, and export to ESR."""
    settings = load_settings()
    services = Services(settings)
    found = demo_data.people_in(services.tcs())
    if found and settings.tcs_url is not None:
        raise UsageError(
            f"TCS holds {found:,} people already, and synthetic data goes only into an empty "
            "database. To run the night on what is there: `tis-sync night`."
        )
    if found:
        out.print(f"Synthetic TCS with {found:,} people: there already.")
    else:
        started = time.monotonic()
        rows = demo_data.generate(
            services.tcs(),
            demo_data.Size(people, seed),
            services.clock().date(),
            left_by_old_service if as_old_service_left else None,
        )
        out.print(
            f"Synthetic TCS with {people:,} people: {sum(rows.values()):,} rows "
            f"in {len(rows)} tables, {time.monotonic() - started:.1f} s."
        )
    services.close()
    if data_only:
        return
    night_run = _night(settings, Options())
    example = "mul"
    out.print(f"\n[bold]tis-sync search persons {example} --where grade=ST3[/]")
    search_and_show(Services(settings), "persons", example, ["grade=ST3"], limit=5, as_json_=False)
    out.print("\n[bold]tis-sync esr export --all[/]")
    demo_export(settings)
    raise typer.Exit(EXIT_OF_STATE.get(night_run.state, 1))


@app.command()
def night(
    *,
    approve: Annotated[bool, typer.Option(help="Let plans through that the guard holds.")] = False,
    json: Json = False,
) -> None:
    """Run every job once, in dependency order."""
    run = _night(load_settings(), Options(approve=approve), as_json_=json)
    raise typer.Exit(EXIT_OF_STATE.get(run.state, 1))


def _night(settings: Settings, options: Options, *, as_json_: bool = False) -> Run:
    with session(settings) as services:
        asked = ask_for_night(services, trigger="manual", who=who(), options=options)
        start_night(asked.id)
        ended = console.follow(services.history, asked.id)
        runs = services.history.children(asked.id)
        if as_json_:
            as_json([ended, *runs])
        else:
            console.runs_table(runs)
            seconds = f" in {ended.seconds:.1f} s" if ended.seconds is not None else ""
            out.print(f"The night {ended.state}{seconds}.")
    for run in runs:
        if run.error:
            console.error(f"{run.job}: {run.error}")
    return ended


@app.command("run")
def run_command(
    job: Annotated[str, typer.Argument(help="The job; also by its key, old bean or method name.")],
    *,
    date: Annotated[
        str | None, typer.Option(help="Which day to make good: YYYY-MM-DD, ANY or NONE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show the plan, write nothing.")] = False,
    rebuild: Annotated[
        bool, typer.Option(help="Replace the whole table, or build the whole index.")
    ] = False,
    approve: Annotated[
        bool, typer.Option(help="Let the plan through that the guard holds.")
    ] = False,
    no_follow_ups: Annotated[
        bool, typer.Option(help="Don't run the jobs that follow when something changed.")
    ] = False,
    json: Json = False,
) -> None:
    """Run one job, and what follows it when it changed something."""
    chosen = job_named(job)
    options = Options(date, dry_run, rebuild, approve, follow_ups=not no_follow_ups)
    with session(load_settings()) as services:
        asked = ask(services, chosen, trigger="manual", who=who(), options=options)
        start([asked.id])
        ended = console.follow(services.history, asked.id)
        family = services.history.family(asked.id)
        if json:
            as_json(family)
        else:
            console.runs_table(family)
            if dry_run:
                _show_plan(ended)
            for line in services.history.set_aside(ended.id)[:10]:
                console.error(f"set aside: {line}")
    for run in family:
        if run.error:
            console.error(run.error)
    raise typer.Exit(EXIT_OF_STATE.get(ended.state, 1))


def _show_plan(run: Run) -> None:
    out.print("\nNothing was written. The first rows of each kind:")
    if not run.detail:
        out.print("  none: there is nothing to do")
    for kind, rows in run.detail.items():
        out.print(f"[bold]{kind}[/]")
        for row in rows:
            out.print("  " + ", ".join(f"{k}={v}" for k, v in row.items()), markup=False)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Jobs; none: all of them.")] = None,
    *,
    json: Json = False,
) -> None:
    """Compare everything derived with what it should be; write nothing. Exit code 1: it differs."""
    chosen = [job_named(name) for name in names] if names else night_order()
    runs: list[Run] = []
    with session(load_settings()) as services:
        for job in chosen:
            asked = ask(services, job, trigger="manual", who=who(), options=Options(dry_run=True))
            start([asked.id])
            runs.append(console.follow(services.history, asked.id))
    if json:
        as_json(runs)
    else:
        table(
            None,
            ("job", "state", "should exist", "missing", "different", "surplus"),
            [(r.job, _verdict(r), r.considered, r.added, r.changed, r.removed) for r in runs],
        )
    for run in runs:
        if run.error:
            console.error(f"{run.job}: {run.error}")
    raise typer.Exit(int(any(run.state != "succeeded" or run.wrote for run in runs)))


def _verdict(run: Run) -> str:
    if run.state != "succeeded":
        return run.state
    return "differs" if run.wrote else "right"


@app.command()
def work() -> None:
    """Run jobs at their times, and those that others ask for, until told to stop."""
    settings = load_settings()
    times(settings)
    logs.configure(settings, level="DEBUG" if "--debug" in sys.argv else "INFO")
    with until_told_to_stop() as stop, session(settings, scheduler=True) as services:
        logs.get().info("worker started", worker=services.worker_id, version=__version__)
        stop.wait()
        logs.get().info("worker stops", worker=services.worker_id)
    leave()


@app.command()
def cancel(run: Annotated[str, typer.Argument(help="The run's id, or its beginning.")]) -> None:
    """Stop a run, or a night with all its runs; what was applied stays applied."""
    ended = control.cancel(Services(load_settings()), run)
    out.print(f"Run {ended.id[:8]} of {ended.job} is cancelled.")


@app.command()
def pause(
    names: Annotated[list[str] | None, typer.Argument(help="Jobs; none: all of them.")] = None,
) -> None:
    """Stop jobs from starting by themselves; by hand they still run."""
    services = Services(load_settings())
    for job in [job_named(name) for name in names] if names else JOBS:
        control.pause_schedule(services, job, pause=True)
        out.print(f"{job.name} is paused.")


@app.command()
def resume(
    names: Annotated[
        list[str] | None, typer.Argument(help="Jobs, or ids of cancelled runs; none: all jobs.")
    ] = None,
) -> None:
    """Let paused jobs start by themselves again, or cancelled runs go on."""
    services = Services(load_settings())
    for name in names or [job.name for job in JOBS]:
        try:
            job = job_named(name)
        except UsageError:
            if len(name) < 4 or set(name.lower()) - set("0123456789abcdef-"):
                raise
            resumed = control.resume(services, name.lower())
            out.print(f"Run {resumed.id[:8]} of {resumed.job} goes on when a worker takes it.")
        else:
            control.pause_schedule(services, job, pause=False)
            out.print(f"{job.name} starts by itself again.")
