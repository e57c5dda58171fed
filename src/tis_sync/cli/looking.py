"""Commands that only look: jobs, status, history, search, the schema of TCS."""

import time
from typing import Annotated, Any

import typer

from tis_sync import console
from tis_sync.cli.app import Json, app, schema_app
from tis_sync.console import as_json, out, table
from tis_sync.errors import UsageError
from tis_sync.esr.broker import letters
from tis_sync.esr.commands import Commands
from tis_sync.esr.plan import STATES
from tis_sync.esr.records import counts
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import BY_NAME, JOBS, job_named
from tis_sync.jobs.person_index import PERSONS
from tis_sync.jobs.post_index import POSTS
from tis_sync.runs import control, watch
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.schedule import times
from tis_sync.runs.services import Services
from tis_sync.runs.workers import living
from tis_sync.search.model import Query
from tis_sync.settings import load_settings
from tis_sync.tcs import schema

INDEXES = {"persons": PERSONS, "posts": POSTS}


@app.command()
def jobs(*, json: Json = False) -> None:
    """List the jobs: times, what each makes true, what follows."""
    settings = load_settings()
    at = times(settings)
    if json:
        as_json([_job(job, f"{at[job.name]:%H:%M}") for job in JOBS])
        return
    table(
        None,
        ("job", "UTC", "makes true", "then"),
        [
            (job.name, f"{at[job.name]:%H:%M}", job.makes, ", ".join(job.follow_ups) or "-")
            for job in JOBS
        ],
    )


def _job(job: Job, at: str) -> dict[str, Any]:
    return {
        "name": job.name,
        "key": job.key,
        "old_names": job.old_names,
        "lock": job.lock_name,
        "at": at,
        "makes": job.makes,
        "depends_on": job.depends_on,
        "follow_ups": job.follow_ups,
        "takes_date": job.dated,
    }


@app.command()
def status(*, json: Json = False) -> None:
    """Show what runs, what each job did last, and what is wrong. Exit code 1: something is."""
    services = Services(load_settings())
    paused = control.paused(services)
    watch.watch(services, paused)
    alarms = services.alarms.open()
    last = {job.name: services.history.last(job.name) for job in JOBS}
    workers = living(services.state, services.clock(), services.settings.dead_after_seconds)
    export = _export(services)
    if json:
        as_json(
            {
                "workers": workers,
                "paused": sorted(paused),
                "jobs": {name: run and console.plain(run) for name, run in last.items()},
                "esr": export,
                "alarms": [console.plain(alarm) for alarm in alarms],
            }
        )
    else:
        rows = [
            (
                name,
                "paused" if name in paused else "",
                run.state if run else "never ran",
                run.finished_at or run.started_at if run else None,
                run.wrote if run else None,
                run.seconds if run else None,
            )
            for name, run in last.items()
        ]
        table(None, ("job", "", "last run", "at (UTC)", "written", "seconds"), rows)
        out.print(f"Workers with schedules: {', '.join(workers) or 'none'}")
        if export:
            out.print("ESR: " + ", ".join(f"{n:,} {name}" for name, n in export.items()))
        for alarm in alarms:
            out.print(
                f"[red]{alarm.subject} {alarm.kind}[/] since {alarm.raised_at:%Y-%m-%d %H:%M}"
            )
            out.print(f"  {alarm.text}", markup=False)
        if not alarms:
            out.print("No alarms.")
    raise typer.Exit(int(bool(alarms)))


def _export(s: Services) -> dict[str, int]:
    """How many records are in which state, and what is dead; nothing where nothing is exported."""
    counted = counts(s.state)
    if not s.settings.esr or not counted:
        return {}
    totals = {name: sum(n for (_, state), n in counted.items() if state == name) for name in STATES}
    dead = {
        "dead commands": len(Commands(s.state).in_state("dead")),
        "dead letters": len(letters.waiting(s.state)),
    }
    return totals | dead


@app.command()
def history(
    *,
    job: Annotated[str | None, typer.Option(help="Only this job's runs.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """List the last runs, newest first."""
    services = Services(load_settings())
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    runs = services.history.recent(limit, name)
    if json:
        as_json(runs)
        return
    table(
        None,
        ("run", "job", "trigger", "who", "asked for (UTC)", "state", "written", "seconds"),
        [
            (
                r.id[:8],
                r.job,
                f"{r.trigger}, dry run" if r.options.dry_run else r.trigger,
                r.who,
                r.created_at,
                r.state,
                r.wrote,
                r.seconds,
            )
            for r in runs
        ],
    )


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's id, or the beginning of it.")],
    *,
    log: Annotated[bool, typer.Option("--log", help="Show its log lines.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends.")] = False,
    json: Json = False,
) -> None:
    """Show one run: how it was asked for, its phases, counts, set-aside records, error."""
    services = Services(load_settings())
    found = services.history.get(run)
    if log:
        _show_log(services, found, follow=follow)
        return
    if json:
        as_json({**console.plain(found), "set_aside_records": services.history.set_aside(found.id)})
        return
    for name, value in (
        ("run", found.id),
        ("job", found.job),
        ("state", found.state),
        ("trigger", found.trigger),
        ("asked for by", found.who),
        ("today", found.as_of.today),
        (
            "days",
            f"{found.as_of.first} to {found.as_of.last}"
            + (", every record" if found.as_of.every else ""),
        ),
        ("options", found.options),
        ("considered", found.considered),
        ("added", found.added),
        ("changed", found.changed),
        ("removed", found.removed),
        ("set aside", found.set_aside),
        ("seconds", found.seconds),
        ("error", found.error),
    ):
        out.print(f"{name + ':':14} {'-' if value is None else value}", markup=False)
    for name, at in services.history.phases(found.id):
        out.print(f"  {at:%H:%M:%S} {name}")
    for line in services.history.set_aside(found.id):
        out.print(f"  set aside: {line}", markup=False)


def _show_log(services: Services, run: Run, *, follow: bool) -> None:
    seen = 0
    while True:
        ended = not services.history.get(run.id).is_active
        for line in services.history.lines(run.id, seen):
            seen = line.id
            out.print(f"{line.at:%Y-%m-%d %H:%M:%S} {line.level:7} {line.text}", markup=False)
        if ended or not follow:
            return
        time.sleep(console.FOLLOW_SECONDS)


@app.command()
def search(
    index: Annotated[str, typer.Argument(help="persons or posts.")],
    text: Annotated[str, typer.Argument(help="Beginnings of words of names or numbers.")] = "",
    *,
    where: Annotated[
        list[str] | None, typer.Option(help="A filter FIELD=VALUE; may be given several times.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
    json: Json = False,
) -> None:
    """Search people or posts: every word and every filter has to fit."""
    if index.lower() not in INDEXES:
        raise UsageError(f"There is no index {index!r}; known are persons and posts.")
    search_and_show(
        Services(load_settings()), index.lower(), text, where or [], limit, as_json_=json
    )


def search_and_show(
    services: Services, index: str, text: str, where: list[str], limit: int, *, as_json_: bool
) -> None:
    """Search an index, and print what was found."""
    filters: list[tuple[str, str]] = []
    for condition in where:
        name, found, value = condition.partition("=")
        if not found or not name or not value:
            raise UsageError(f"--where {condition!r} is not of the form FIELD=VALUE.")
        filters.append((name.strip(), value.strip()))
    spec = INDEXES[index]
    for name, value in filters:
        spec.filter_named(name).field_for(value)
    engine = services.search()
    engine.check()
    hits = engine.query(spec, Query(text, tuple(filters), limit))
    if as_json_:
        as_json({"total": hits.total, "documents": hits.documents})
        return
    columns = {
        "persons": (
            "personId",
            "fullName",
            "gmcNumber",
            "gradeAbbreviation",
            "siteCode",
            "status",
            "currentOwner",
        ),
        "posts": (
            "id",
            "nationalPostNumber",
            "currentTraineeSurnames",
            "primarySpecialtyName",
            "status",
            "owner",
        ),
    }[index]
    ids = {"personId", "id"}
    rows = [[str(d[c]) if c in ids else d[c] for c in columns] for d in hits.documents]
    table(None, columns, rows)
    out.print(f"{hits.total:,} found, {len(hits.documents)} shown.")


@schema_app.command("check")
def schema_check(*, json: Json = False) -> None:
    """Check that TCS has every table and column that the jobs need. Exit code 1: it lacks some."""
    services = Services(load_settings())
    needed: dict[Any, set[str]] = {}
    for job in BY_NAME.values():
        for tcs_table, columns in job.needed().items():
            needed.setdefault(tcs_table, set()).update(columns)
    if services.settings.java_shedlock:
        from tis_sync.tcs.tables import Shedlock

        needed[Shedlock] = {column.name for column in Shedlock.columns}
    findings = schema.check(services.tcs(), {t: sorted(c) for t, c in needed.items()})
    if json:
        as_json([{"table": f.table, "column": f.column, "problem": f.problem} for f in findings])
    elif findings:
        table(
            None, ("table", "column", "problem"), [(f.table, f.column, f.problem) for f in findings]
        )
    else:
        count = sum(len(columns) for columns in needed.values())
        out.print(f"TCS has all {len(needed)} tables and {count} columns that the jobs need.")
    raise typer.Exit(int(bool(findings)))
