"""Commands that only read: jobs, status, history, search, and the schema of TCS."""

from collections import Counter
from typing import Annotated, Any

import typer

from tis_sync import audit
from tis_sync.cli.output import FOLLOW_SECONDS, Json, as_json, error, plain, print_line, table
from tis_sync.cli.process import pause
from tis_sync.doctor.tcs import needed_columns
from tis_sync.errors import UsageError
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.records import RecordState, count_records
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.jobs.person_index import PERSONS
from tis_sync.jobs.post_index import POSTS
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.services import Services
from tis_sync.search.model import Query
from tis_sync.settings.loading import load_settings
from tis_sync.tcs import schema
from tis_sync.workers.cluster import live_workers
from tis_sync.workers.monitor import missing_worker
from tis_sync.workers.schedule import paused_jobs, times

INDEXES = {"persons": PERSONS, "posts": POSTS}
SEARCH_COLUMNS = {
    "persons": (
        "personId", "fullName", "gmcNumber", "gradeAbbreviation", "siteCode", "status",
        "currentOwner",
    ),
    "posts": (
        "id", "nationalPostNumber", "currentTraineeSurnames", "primarySpecialtyName", "status",
        "owner",
    ),
}  # fmt: skip
ID_COLUMNS = {"personId", "id"}  # shown without thousands separators


def list_jobs(*, json: Json = False) -> None:
    """List the jobs: when each starts, what it does, and its follow-ups."""
    at = {name: f"{moment:%H:%M}" for name, moment in times(load_settings()).items()}
    if json:
        as_json([_job_as_json(job, at[job.name]) for job in JOBS])
        return
    table(
        None,
        ("job", "UTC", "what it does", "follow-ups"),
        [
            (job.name, at[job.name], job.description, ", ".join(job.follow_ups) or "-")
            for job in JOBS
        ],
    )


def _job_as_json(job: Job, at: str) -> dict[str, Any]:
    return {
        "name": job.name,
        "key": job.key,
        "old_names": job.old_names,
        "lock": job.lock_name,
        "at": at,
        "description": job.description,
        "depends_on": job.depends_on,
        "follow_ups": job.follow_ups,
        "takes_date": job.dated,
    }


def status(*, json: Json = False) -> None:
    """Show the last run of each job, and the open alarms. Exit code 1: an alarm is open."""
    s = Services(load_settings())
    paused = paused_jobs(s)
    s.deliver()  # there may be no worker to do that
    alarms = s.alarms.open_alarms()
    absent = missing_worker(s)
    if absent is not None and not any(alarm.kind == absent.kind for alarm in alarms):
        alarms.append(absent)
    last = {job.name: s.history.last(job.name) for job in JOBS}
    workers = live_workers(s)
    esr = _esr_counts(s)
    if json:
        as_json(
            {
                "workers": workers,
                "paused": sorted(paused),
                "jobs": {name: run and plain(run) for name, run in last.items()},
                "esr": esr,
                "alarms": [plain(alarm) for alarm in alarms],
            }
        )
    else:
        table(
            None,
            ("job", "schedule", "last run", "at (UTC)", "written", "seconds"),
            [_status_row(name, run, is_paused=name in paused) for name, run in last.items()],
        )
        print_line(f"Workers with schedules: {', '.join(workers) or 'none'}")
        if esr:
            print_line("ESR: " + ", ".join(f"{n:,} {name}" for name, n in esr.items()))
        for alarm in alarms:
            since = f"{alarm.raised_at:%Y-%m-%d %H:%M}"
            print_line(f"{alarm.subject}: {alarm.kind.name} since {since} UTC", "red")
            print_line(f"  {alarm.text}")
        if not alarms:
            print_line("No alarms.")
    raise typer.Exit(int(bool(alarms)))


def _status_row(job: str, run: Run | None, *, is_paused: bool) -> tuple[Any, ...]:
    schedule = "paused" if is_paused else ""
    if run is None:
        return (job, schedule, "never ran", None, None, None)
    at = run.finished_at or run.started_at
    return (job, schedule, run.state, at, run.written, run.seconds)


def _esr_counts(s: Services) -> dict[str, int]:
    """The number of records in each state and of dead work; empty if the export is turned off."""
    by_deanery = count_records(s.state)
    if not s.settings.esr or not by_deanery:
        return {}
    counts: Counter[str] = Counter({str(state): 0 for state in RecordState})
    for (_, state), count in by_deanery.items():
        counts[state] += count
    return {
        **counts,
        "dead commands": len(Commands(s.state).in_state(CommandState.DEAD)),
        "dead letters": len(dead_letters.waiting(s.state)),
    }


def list_runs(
    *,
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """List the latest runs, newest first."""
    name = None if job is None else NIGHT if job.lower() == NIGHT else job_named(job).name
    runs = Services(load_settings()).history.recent(limit, name)
    if json:
        as_json(runs)
        return
    table(
        None,
        (
            "run", "job", "trigger", "requested by", "requested (UTC)", "state", "written",
            "seconds",
        ),
        [
            (
                r.id[:8],
                r.job,
                f"{r.trigger}, dry run" if r.options.dry_run else r.trigger,
                r.requested_by,
                r.created_at,
                r.state,
                None if r.options.dry_run else r.written,
                r.seconds,
            )
            for r in runs
        ],
    )  # fmt: skip


def show_run(
    run: Annotated[str, typer.Argument(help="The run's id, or a unique prefix of it.")],
    *,
    log: Annotated[bool, typer.Option("--log", help="Show the log lines of the run.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --log, print new lines until the run ends.")
    ] = False,
    json: Json = False,
) -> None:
    """Show one run: its options, phases, counts, set-aside records and error."""
    s = Services(load_settings())
    chosen = s.history.get(run)
    if log:
        _print_log(s, chosen, follow=follow)
        return
    if json:
        as_json({**plain(chosen), "set_aside_records": s.history.set_aside(chosen.id)})
        return
    as_of = chosen.as_of
    days = f"{as_of.first} to {as_of.last}" + (", every record" if as_of.every else "")
    for name, value in (
        ("run", chosen.id),
        ("job", chosen.job),
        ("state", chosen.state),
        ("trigger", chosen.trigger),
        ("requested by", chosen.requested_by),
        ("today", as_of.today),
        ("days", days),
        ("options", str(chosen.options) or None),
        ("considered", chosen.considered),
        ("added", chosen.added),
        ("changed", chosen.changed),
        ("removed", chosen.removed),
        ("set aside", chosen.set_aside),
        ("seconds", chosen.seconds),
        ("error", chosen.error),
    ):
        if value is not None:
            print_line(f"{name + ':':14} {value}")
    for phase, at in s.history.phases(chosen.id):
        print_line(f"  {at:%H:%M:%S} {phase}")
    for record in s.history.set_aside(chosen.id):
        print_line(f"  set aside: {record}")


def _print_log(s: Services, run: Run, *, follow: bool) -> None:
    last_line = 0
    while True:
        has_ended = not s.history.get(run.id).is_active
        for line in s.history.lines(run.id, last_line):
            last_line = line.id
            print_line(f"{line.at:%Y-%m-%d %H:%M:%S} {line.level:7} {line.text}")
        if has_ended or not follow:
            return
        pause(FOLLOW_SECONDS)


def search(
    index: Annotated[str, typer.Argument(help="persons or posts.")],
    text: Annotated[str, typer.Argument(help="Prefixes of words in names or numbers.")] = "",
    *,
    where: Annotated[
        list[str] | None, typer.Option(help="A filter FIELD=VALUE. Repeat it for more filters.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show at most.")] = 20,
    json: Json = False,
) -> None:
    """Search people or posts. Every word and every filter must match."""
    if index.lower() not in INDEXES:
        raise UsageError(f"There is no index {index!r}; the indexes are persons and posts.")
    print_search(Services(load_settings()), index.lower(), text, where or [], limit, json=json)


def print_search(
    s: Services, index: str, text: str, where: list[str], limit: int, *, json: bool
) -> None:
    """Search an index, and print the documents.

    Args:
        s: settings, clock and servers.
        index: persons or posts.
        text: prefixes of words.
        where: filters of the form FIELD=VALUE.
        limit: the maximum number of documents.
        json: print whole documents as JSON instead of a table of some columns.

    Raises:
        UsageError: a filter is malformed, or its field is unknown.

    """
    filters: list[tuple[str, str]] = []
    for condition in where:
        name, separator, value = condition.partition("=")
        if not separator or not name or not value:
            raise UsageError(f"--where {condition!r} is not of the form FIELD=VALUE.")
        filters.append((name.strip(), value.strip()))
    spec = INDEXES[index]
    for name, value in filters:
        spec.filter_named(name).field_for(value)
    engine = s.search()
    engine.check()
    hits = engine.query(spec, Query(text, tuple(filters), limit))
    if json:
        as_json({"total": hits.total, "documents": hits.documents})
        return
    columns = SEARCH_COLUMNS[index]
    rows = [[str(d[c]) if c in ID_COLUMNS else d[c] for c in columns] for d in hits.documents]
    table(None, columns, rows)
    print_line(f"{hits.total:,} found, {len(hits.documents)} shown.")


def check_schema(*, json: Json = False) -> None:
    """Check that TCS has every table and column that we need. Exit code 1: one is missing."""
    s = Services(load_settings())
    needed = needed_columns(s)
    problems = schema.check(s.tcs(), needed)
    if json:
        as_json(problems)
    elif problems:
        table(
            None, ("table", "column", "problem"), [(p.table, p.column, p.problem) for p in problems]
        )
    else:
        count = sum(len(columns) for columns in needed.values())
        print_line(f"TCS has all {len(needed)} tables and {count} columns that we need.")
    raise typer.Exit(int(bool(problems)))


def list_audit_entries(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List who did what, newest first."""
    entries = audit.entries(Services(load_settings()).state, limit)
    if json:
        as_json(entries)
        return
    columns = ("entry", "at (UTC)", "who", "by", "action", "subject", "outcome")
    rows = [(str(e.id), e.at, e.actor, e.channel, e.action, e.subject, e.outcome) for e in entries]
    table(None, columns, rows)


def verify_audit(
    *,
    known_hash: Annotated[
        str | None,
        typer.Option(
            "--hash", help="A hash from the log or an earlier check: its entry must still be there."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that no entry was changed or removed. Exit code 1: one was."""
    found = audit.verify(Services(load_settings()).state, known_hash)
    if json:
        as_json(found)
    else:
        for fault in found.faults:
            error(fault)
        older = f", and {found.unprotected:,} of earlier versions" if found.unprotected else ""
        print_line(f"{found.entries:,} entries with a hash{older}.")
        if found.last_id is not None:
            print_line(f"The last one is {found.last_id}, with the hash {found.last_hash}")
        if not found.faults:
            print_line("No entry was changed or removed.")
    raise typer.Exit(int(bool(found.faults)))
