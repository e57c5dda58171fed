"""Commands of the export to ESR."""

import asyncio
import sys
import time
from datetime import date
from typing import Annotated

import polars as pl
import typer

from tis_sync import logs
from tis_sync.cli.app import Json, app, leave, until_told_to_stop, who
from tis_sync.console import as_json, error, out, table
from tis_sync.errors import UsageError
from tis_sync.esr import files as file_store
from tis_sync.esr import records as record_store
from tis_sync.esr import watch as _watch  # noqa: F401  registers the alarms of the export
from tis_sync.esr.broker import watch as _broker_watch  # noqa: F401  those of the broker
from tis_sync.esr.broker.application import contract
from tis_sync.esr.broker.connect import connected
from tis_sync.esr.broker.listen import listening
from tis_sync.esr.commands import Command, Commands
from tis_sync.esr.contents import contents, existing
from tis_sync.esr.deaneries import (
    APP,
    DEANERIES,
    EXPORT_AT,
    LONDON,
    deanery_named,
    file_type_named,
    london_day,
    next_due,
)
from tis_sync.esr.destination import shown
from tis_sync.esr.explain import explain as explain_placement
from tis_sync.esr.generations import bring_up_to_date
from tis_sync.esr.plan import STATES
from tis_sync.esr.sources import layout_of
from tis_sync.esr.workflows import ask_for_day, start
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.settings import Settings, load_settings

FOLLOW_SECONDS = 0.1
COLUMNS_SHOWN = 9  # of a file's records; as many as a terminal holds
esr_app = typer.Typer(help="The export of starters and notifications to ESR.", no_args_is_help=True)
app.add_typer(esr_app, name="esr")


@esr_app.command()
def generate(*, json: Json = False) -> None:
    """Bring the records up to date with TCS."""
    made = bring_up_to_date(Services(load_settings()), trigger="manual", who=who())
    if json:
        as_json(made)
        return
    out.print(
        f"{made.eligible:,} records: {made.added:,} new, {made.changed:,} changed, "
        f"{made.removed:,} no longer eligible; {made.invalid:,} have INVALID_DATA."
    )


@esr_app.command()
def records(
    *,
    state: Annotated[list[str] | None, typer.Option(help=f"{', '.join(STATES)}.")] = None,
    deanery: Annotated[list[str] | None, typer.Option(help="Only of this deanery.")] = None,
    placement: Annotated[int | None, typer.Option(help="Only of this placement.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at the most.")] = 50,
    json: Json = False,
) -> None:
    """List records, those that start first in front; and how many there are in each state."""
    states = [_state(name) for name in state or []]
    services = Services(load_settings())
    found = record_store.records(
        services.state,
        states=states,
        deaneries=[deanery_named(name) for name in deanery or []],
        placement=placement,
        limit=limit,
    )
    if json:
        as_json(found)
        return
    _records_table(found)
    counted = record_store.counts(services.state)
    totals = {s: sum(n for (_, state), n in counted.items() if state == s) for s in STATES}
    out.print("In all: " + ", ".join(f"{n:,} {name}" for name, n in totals.items()) + ".")


def _state(text: str) -> str:
    if text.upper() not in STATES:
        raise UsageError(f"Unknown state {text!r}; there are {', '.join(STATES)}.")
    return text.upper()


def _records_table(found: list[record_store.Record]) -> None:
    table(
        None,
        ("placement", "position", "deanery", "starts", "name", "state", "file or reason"),
        [
            (
                str(r.placement_id), str(r.position_id), r.deanery, str(r.start), r.name, r.state,
                r.reason or r.held or r.file or "",
            )
            for r in found
        ],
    )  # fmt: skip


@esr_app.command()
def explain(
    placement: Annotated[int, typer.Argument(help="The placement's id in TCS.")],
    *,
    json: Json = False,
) -> None:
    """Tell why a placement has, or has not, gone to ESR, and what will happen next."""
    story = explain_placement(Services(load_settings()), placement)
    if json:
        as_json(story)
        return
    for line in story.lines:
        out.print(line, markup=False)


@esr_app.command("at-risk")
def at_risk(*, json: Json = False) -> None:
    """List starters whom the next export cannot hold any more. Exit code 1: there are some."""
    services = Services(load_settings())
    now = services.clock()
    found = record_store.at_risk(services.state, now)
    if json:
        as_json(found)
    elif not found:
        out.print(f"Nobody is at risk: the next export is {_local(next_due(APP, now))}.")
    else:
        _records_table(found)
        deaneries = " ".join(sorted({r.deanery for r in found if r.deanery in DEANERIES}))
        out.print(f"Send them now: [bold]tis-sync esr export {deaneries} --new[/]")
    raise typer.Exit(int(bool(found)))


def _local(moment: object) -> str:
    return f"{moment.astimezone(LONDON):%A %-d %B %Y, %H:%M} London time"  # type: ignore[attr-defined]


@esr_app.command()
def export(
    deanery: Annotated[list[str] | None, typer.Argument(help="Deaneries; or --all.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All thirteen.")] = False,
    type_: Annotated[
        str, typer.Option("--type", help="app, notification or notification-full.")
    ] = "app",
    date_: Annotated[
        str | None, typer.Option("--date", help="The day of the file: YYYY-MM-DD. Default: today.")
    ] = None,
    new: Annotated[
        bool, typer.Option(help="Take a new number, for what is unsent, though the day has a file.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would go, write nothing.")] = False,
    json: Json = False,
) -> None:
    """Export the files of a day; those that there are already are sent again as they were."""
    if bool(deanery) == all_:
        raise UsageError(f"Name deaneries ({', '.join(DEANERIES)}), or say --all.")
    chosen = [deanery_named(name) for name in deanery or DEANERIES]
    file_type = file_type_named(type_)
    settings = load_settings()
    with session(settings) as s:
        day = _day(date_, london_day(s.clock()))
        if dry_run:
            _dry_run(s, chosen, file_type, day, new=new)
            return
        commands = Commands(s.state)
        asked = [
            commands.ask(
                file_type=file_type, deanery=code, day=day, trigger="manual", who=who(),
                now=s.clock(), new=new,
            )
            for code in dict.fromkeys(chosen)
        ]  # fmt: skip
        start(asked)
        follow(s, [command.id for command in asked], json=json)


def demo_export(settings: Settings) -> None:
    """The end of the demo: today's files of all deaneries, and why one placement is in none."""
    for file_type in EXPORT_AT:
        with session(settings) as s:
            day = london_day(s.clock())
            asked = ask_for_day(s, file_type, day, "manual", who())
            start(asked)
            ids = [command.id for command in asked]
            _wait(s, ids)
            made = [f for c in Commands(s.state).many(ids) if (f := _file(s, c)) is not None]
        lines = sum(file.records for file in made)
        where = shown(settings.export())
        out.print(f"{len(made)} {file_type} files with {lines:,} records in {where}")
    services = Services(settings)
    unsent = record_store.records(services.state, states=["INVALID_DATA"], limit=1)
    for record in unsent:
        out.print(f"\n[bold]tis-sync esr explain {record.placement_id}[/]")
        for line in explain_placement(services, record.placement_id).lines:
            out.print(line, markup=False)


def _wait(s: Services, ids: list[str]) -> None:
    while any(c.state in {"queued", "running"} for c in Commands(s.state).many(ids)):
        time.sleep(FOLLOW_SECONDS)


def _day(text: str | None, today: date) -> date:
    if text is None:
        return today
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text!r} is not a date; accepted is YYYY-MM-DD.") from None
    if day > today:
        raise UsageError(f"--date {text} lies in the future; today is {today} (London).")
    return day


def _dry_run(s: Services, chosen: list[str], file_type: str, day: date, *, new: bool) -> None:
    counted = record_store.counts(s.state)
    rows: list[tuple[str, str, int | None, str]] = []
    for code in chosen:
        there = file_store.files(s.state, day=day, deanery=code, file_type=file_type)
        if there and not new:
            rows.append((code, there[0].name, there[0].records, "would be sent again as it was"))
        elif file_type == APP:
            waiting = counted.get((code, "TO_EXPORT"), 0)
            rows.append((code, "(a new number)", waiting, "records wait, before a generation"))
        else:
            rows.append((code, "(a new number)", None, "with every notification not yet sent"))
    table(None, ("deanery", "file", "records", ""), rows)
    out.print("Nothing was written.")


def follow(s: Services, ids: list[str], *, json: bool) -> None:
    """Wait until commands have ended; show their files; exit code 1 if one is dead."""
    commands = Commands(s.state)
    told: set[tuple[str, str]] = set()
    while any(c.state in {"queued", "running"} for c in commands.many(ids)):
        for command in commands.many(ids):
            if command.error and (command.id, command.error) not in told:
                told.add((command.id, command.error))
                error(f"{command.deanery}: {command.error} Tried again by itself.")
        time.sleep(FOLLOW_SECONDS)
    ended = commands.many(ids)
    if json:
        as_json([_with_file(s, command) for command in ended])
    else:
        _files_table([f for c in ended if (f := _file(s, c)) is not None])
    for command in ended:
        if command.state == "dead":
            error(f"{command.deanery}: {command.error}")
    raise typer.Exit(int(any(command.state == "dead" for command in ended)))


def _file(s: Services, command: Command) -> file_store.File | None:
    return None if command.file is None else file_store.file_named(s.state, command.file)


def _with_file(s: Services, command: Command) -> dict[str, object]:
    return {"command": vars(command), "file": (f := _file(s, command)) and vars(f)}


def _files_table(found: list[file_store.File]) -> None:
    table(
        None,
        ("file", "records", "bytes", "written (UTC)", "TCS told (UTC)"),
        [(f.name, f.records, f.size, f.written_at, f.told_at) for f in found],
    )


@esr_app.command()
def files(
    *,
    day: Annotated[str | None, typer.Option("--date", help="Only of this day.")] = None,
    deanery: Annotated[str | None, typer.Option(help="Only of this deanery.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only of this file type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at the most.")] = 26,
    json: Json = False,
) -> None:
    """List files, newest first."""
    services = Services(load_settings())
    found = file_store.files(
        services.state,
        day=None if day is None else _day(day, london_day(services.clock())),
        deanery=None if deanery is None else deanery_named(deanery),
        file_type=None if type_ is None else file_type_named(type_),
        limit=limit,
    )
    if json:
        as_json(found)
    else:
        _files_table(found)


@esr_app.command("file")
def file_command(
    name: Annotated[str, typer.Argument(help="The file's name.")],
    *,
    line: Annotated[int | None, typer.Option(help="All that this line says.")] = None,
    json: Json = False,
) -> None:
    """Show what a file says, as a table of its main columns; with --line, one record whole."""
    settings = load_settings()
    services = Services(settings)
    file = existing(services.state, name)
    layout = layout_of(file.file_type, settings)
    said = contents(settings, file)
    if json:
        as_json({"header": said.header, "records": said.body.to_dicts(), "trailer": said.trailer})
        return
    out.print(", ".join(f"{k} {v}" for k, v in (said.header or {}).items()), markup=False)
    if line is not None:
        for record in said.body.filter(pl.col("line") == line).to_dicts():
            table(None, ("field", "value"), [(k, v) for k, v in record.items() if v is not None])
    else:
        filled = [c for c in said.body.columns if said.body[c].null_count() < said.body.height]
        mandatory = [field.name for field in layout.body.fields if field.mandatory]
        shown_first = sorted(filled, key=lambda c: c != "line" and c not in mandatory)
        columns = shown_first[:COLUMNS_SHOWN]
        table(None, columns, said.body.select(columns).rows())
    for bad in said.bad:
        error(f"{name}, line {bad.number}: {bad.reason}: {bad.text}")


@esr_app.command()
def listen() -> None:
    """Take records and commands from the broker, and send events, until told to stop.

    `tis-sync work` does so too; this is for a machine that only listens.
    """
    settings = load_settings()
    asyncio.run(_answers(settings))
    logs.configure(settings, level="DEBUG" if "--debug" in sys.argv else "INFO")
    with until_told_to_stop() as stop, session(settings) as s, listening(s):
        stop.wait()
    leave()


async def _answers(settings: Settings) -> None:
    """See whether the broker is there, while somebody looks."""
    async with connected(settings):
        pass


@esr_app.command("contract")
def contract_command() -> None:
    """Print the message contract: an AsyncAPI document, as JSON."""
    as_json(contract(load_settings()).to_jsonable())
