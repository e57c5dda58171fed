"""Commands of the export to ESR: records, files, export, and the broker."""

import asyncio
import sys
from datetime import date, datetime
from typing import Annotated

import polars as pl
import typer

from tis_sync import actions, extras
from tis_sync.app import command_session, consume, session
from tis_sync.cli.output import Json, as_json, error, print_line, table
from tis_sync.cli.process import actor, exit_now, log_to_stdout, pause, stop_event, wait_until
from tis_sync.errors import UsageError
from tis_sync.esr.calendar import LONDON, london_day, next_due
from tis_sync.esr.deaneries import DEANERIES, FileType, deanery_named, file_type_named
from tis_sync.esr.export.commands import Command, Commands, CommandState, workflow_prefix
from tis_sync.esr.export.explain import explain as explain_placement
from tis_sync.esr.export.preview import SENT_AGAIN, FilePreview, check_day, preview, total
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.numbering import File
from tis_sync.esr.files.store import find_file, find_files, get_file, read_contents
from tis_sync.esr.messaging.connection import connected
from tis_sync.esr.records import Record, RecordState, count_records, find_records, records_at_risk
from tis_sync.iso_day import iso_day
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings

FOLLOW_SECONDS = 0.1  # how often the state of commands is read
COLUMNS_SHOWN = 9  # of a file's records: as many as fit on a terminal
ACTIVE = {CommandState.QUEUED, CommandState.RUNNING}


def generate(*, json: Json = False) -> None:
    """Refresh the records for ESR from TCS."""
    s = Services(load_settings())
    generation = actions.refresh_records(s, actor())
    if json:
        as_json(generation)
        return
    print_line(
        f"{generation.eligible:,} records: {generation.added:,} new, {generation.changed:,} "
        f"changed, {generation.removed:,} no longer eligible; {generation.invalid:,} have "
        "INVALID_DATA."
    )


def list_records(
    *,
    state: Annotated[
        list[str] | None, typer.Option(help=f"Only in this state: {', '.join(RecordState)}.")
    ] = None,
    deanery: Annotated[list[str] | None, typer.Option(help="Only of this deanery.")] = None,
    placement: Annotated[int | None, typer.Option(help="Only of this placement.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List records, earliest start date first, and count the records in each state."""
    states = [_state(name) for name in state or []]
    s = Services(load_settings())
    records = find_records(
        s.state,
        states=states,
        deaneries=[deanery_named(name) for name in deanery or []],
        placement=placement,
        limit=limit,
    )
    if json:
        as_json(records)
        return
    _records_table(records)
    counts = count_records(s.state)
    totals = {name: sum(n for (_, st), n in counts.items() if st == name) for name in RecordState}
    print_line("In total: " + ", ".join(f"{n:,} {name}" for name, n in totals.items()) + ".")


def _state(text: str) -> RecordState:
    try:
        return RecordState(text.upper())
    except ValueError:
        raise UsageError(
            f"Unknown state {text!r}; the states are {', '.join(RecordState)}."
        ) from None


def _records_table(records: list[Record]) -> None:
    table(
        None,
        ("placement", "position", "deanery", "starts", "name", "state", "file or reason"),
        [
            (
                str(r.placement_id), str(r.position_id), r.deanery, str(r.start), r.name, r.state,
                r.reason or r.postponed or r.file or "",
            )
            for r in records
        ],
    )  # fmt: skip


def explain(
    placement: Annotated[int, typer.Argument(help="The placement's id in TCS.")],
    *,
    json: Json = False,
) -> None:
    """Explain why a placement was or was not sent to ESR, and what happens next."""
    explanation = explain_placement(Services(load_settings()), placement)
    if json:
        as_json(explanation)
        return
    for line in explanation.lines:
        print_line(line)


def list_at_risk(*, json: Json = False) -> None:
    """List people who start too soon for the next export. Exit code 1: there are some."""
    s = Services(load_settings())
    now = s.clock()
    records = records_at_risk(s.state, now)
    if json:
        as_json(records)
    elif not records:
        print_line(
            f"Nobody is at risk. The next export is on {_london(next_due(FileType.APP, now))}."
        )
    else:
        _records_table(records)
        deaneries = " ".join(sorted({r.deanery for r in records if r.deanery in DEANERIES}))
        print_line(f"Send them now: tis-sync esr export {deaneries} --new", "bold")
    raise typer.Exit(int(bool(records)))


def _london(moment: datetime) -> str:
    return f"{moment.astimezone(LONDON):%A %-d %B %Y at %H:%M} London time"


def export(
    deaneries: Annotated[list[str] | None, typer.Argument(help="Deaneries; or --all.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All thirteen deaneries.")] = False,
    file_type: Annotated[
        str, typer.Option("--type", help="app, notification or notification-full.")
    ] = "app",
    day: Annotated[
        str | None, typer.Option("--date", help="The day of the file: YYYY-MM-DD. Default: today.")
    ] = None,
    new: Annotated[
        bool,
        typer.Option(
            "--new", help="Export what is unsent under a new number, even if a file exists."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; write nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before files of another day are sent.")
    ] = False,
    json: Json = False,
) -> None:
    """Export the files of a day. An existing file is sent again, unchanged.

    If the day is not today, the preview is shown first, and you are asked.
    """
    if bool(deaneries) == all_:
        raise UsageError(f"Name deaneries ({', '.join(DEANERIES)}), or use --all.")
    settings = load_settings()
    names = deaneries or list(DEANERIES)
    s = Services(settings)
    subject = f"{file_type} {' '.join(names)}"
    with actions.requested(s, actor(), "export", subject):
        codes = [deanery_named(name) for name in names]
        chosen_type = file_type_named(file_type)
        today = london_day(s.clock())
        chosen_day = _day(day, today)
        if dry_run or chosen_day != today:
            check_day(settings, chosen_day, today)
    with command_session(settings) as s:
        previewed = None
        if dry_run or chosen_day != today:
            if chosen_type == FileType.APP and not dry_run:
                actions.refresh_records(s, actor())  # the preview must know what the export will
            previews = preview(s, codes, chosen_type, chosen_day, new=new)
            if dry_run:
                _print_preview(previews, json=json)
                return
            previewed = total(previews)
            if not yes:
                with actions.requested(s, actor(), "export", subject):
                    _confirm(previews, chosen_day, today, json=json)
        commands = actions.export(
            s, actor(), codes, chosen_type, chosen_day, new=new, previewed=previewed
        )
        follow(s, [command.id for command in commands], json=json)


def _day(text: str | None, today: date) -> date:
    if text is None:
        return today
    try:
        day = iso_day(text)
    except ValueError as error:
        raise UsageError(f"--date {error}.") from None
    if day > today:
        raise UsageError(f"--date {text} is in the future; today is {today} (London).")
    return day


def _print_preview(previews: list[FilePreview], *, json: bool = False) -> None:
    if json:
        as_json(previews)
        return
    rows = [
        (p.deanery, p.file or "(a new number)", p.records, SENT_AGAIN if p.file else "unsent")
        for p in previews
    ]
    table(None, ("deanery", "file", "records", "what would be sent"), rows)
    print_line("Nothing was written.")


def _confirm(previews: list[FilePreview], day: date, today: date, *, json: bool) -> None:
    """Show the preview of an export for another day than today, and ask.

    Raises:
        UsageError: nobody can be asked: a program called us.
        typer.Exit: the answer is no.

    """
    question = (
        f"This exports {total(previews):,} records into files for {day}; today is {today} (London)."
    )
    if json or not sys.stdin.isatty():
        raise UsageError(
            f"{question} Look at the preview with --dry-run, and confirm it with --yes."
        )
    _print_preview(previews)
    if not typer.confirm(f"{question} Export them?"):
        raise typer.Exit(1)


def follow(s: Services, ids: list[str], *, json: bool) -> None:
    """Wait until export commands have ended, and print their files.

    Args:
        s: settings, clock and servers.
        ids: the ids of the commands.
        json: print JSON instead of a table.

    Raises:
        typer.Exit: always; the code is 1 if a command is dead.

    """
    files = wait_for_commands(s, ids)
    commands = Commands(s.state).many(ids)
    if json:
        by_name = {file.name: vars(file) for file in files}
        as_json([{"command": vars(c), "file": by_name.get(c.file or "")} for c in commands])
    else:
        _files_table(files)
    dead = [command for command in commands if command.state == CommandState.DEAD]
    for command in dead:
        error(f"{command.deanery}: {command.error}")
    raise typer.Exit(int(bool(dead)))


def wait_for_commands(s: Services, ids: list[str]) -> list[File]:
    """Wait until export commands have ended; print the error of each failed attempt.

    Returns:
        The files of the commands.

    """
    commands = Commands(s.state)
    s.awaited.update(workflow_prefix(command_id) for command_id in ids)
    printed: set[tuple[str, str]] = set()
    while any(command.state in ACTIVE for command in commands.many(ids)):
        for command in commands.many(ids):
            if command.error and (command.id, command.error) not in printed:
                printed.add((command.id, command.error))
                error(f"{command.deanery}: {command.error} It is retried automatically.")
        pause(FOLLOW_SECONDS)
    files = [_file_of(s, command) for command in commands.many(ids)]
    return [file for file in files if file is not None]


def _file_of(s: Services, command: Command) -> File | None:
    return None if command.file is None else find_file(s.state, command.file)


def _files_table(files: list[File]) -> None:
    table(
        None,
        ("file", "records", "bytes", "written (UTC)", "reported to TCS (UTC)"),
        [(f.name, f.records, f.size, f.written_at, f.reported_at) for f in files],
    )


def list_files(
    *,
    day: Annotated[str | None, typer.Option("--date", help="Only of this day.")] = None,
    deanery: Annotated[str | None, typer.Option(help="Only of this deanery.")] = None,
    file_type: Annotated[str | None, typer.Option("--type", help="Only of this file type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 26,
    json: Json = False,
) -> None:
    """List files, newest first."""
    s = Services(load_settings())
    files = find_files(
        s.state,
        day=None if day is None else _day(day, london_day(s.clock())),
        deanery=None if deanery is None else deanery_named(deanery),
        file_type=None if file_type is None else file_type_named(file_type),
        limit=limit,
    )
    if json:
        as_json(files)
    else:
        _files_table(files)


def show_file(
    name: Annotated[str, typer.Argument(help="The file's name.")],
    *,
    line: Annotated[int | None, typer.Option(help="Show every field of this line.")] = None,
    json: Json = False,
) -> None:
    """Show the records of a file in a table of their main columns."""
    settings = load_settings()
    s = Services(settings)
    file = get_file(s.state, name)
    contents = read_contents(s.state, settings, file)
    records = contents.records
    if line is not None:
        records = records.filter(pl.col("line") == line)
        if records.is_empty():
            lines = contents.records["line"].to_list()
            among = f"in lines {lines[0]} to {lines[-1]}" if lines else "none"
            raise UsageError(f"{name} has no record in line {line}; its records are {among}.")
    if json:
        as_json(
            {
                "header": contents.header,
                "records": records.to_dicts(),
                "trailer": contents.trailer,
            }
        )
        return
    print_line(", ".join(f"{field} {value}" for field, value in contents.header.items()))
    if line is not None:
        for record in records.to_dicts():
            table(None, ("field", "value"), [(k, v) for k, v in record.items() if v is not None])
        return
    columns = _main_columns(records, settings, file)
    table(None, columns, records.select(columns).rows())


def _main_columns(records: pl.DataFrame, settings: Settings, file: File) -> list[str]:
    """The columns that a table has room for: those with values, mandatory fields first."""
    body = layout_of(file.file_type, settings).body
    first = {"line"} | {field.name for field in body.fields if field.mandatory}
    filled = [c for c in records.columns if records[c].null_count() < records.height]
    return sorted(filled, key=lambda column: column not in first)[:COLUMNS_SHOWN]


def listen() -> None:
    """Consume records and commands from the broker, and send events, until stopped.

    `tis-sync work` does this too. Use this command on a machine that should do nothing else.
    """
    settings = load_settings()
    asyncio.run(_require_broker(settings))
    log_to_stdout(settings)
    with stop_event() as stop, session(settings, stop=stop) as s, consume(s):
        wait_until(stop)
    exit_now()


async def _require_broker(settings: Settings) -> None:
    """Fail immediately, with a message on the terminal, if the broker cannot be reached."""
    async with connected(settings):
        pass


def print_contract() -> None:
    """Print the message contract: an AsyncAPI document, as JSON."""
    with extras.needs(extras.RABBITMQ):
        from tis_sync.esr.messaging.application import asyncapi_document

    as_json(asyncapi_document(load_settings()).to_jsonable(), sort_keys=True)


def erase(
    placements: Annotated[
        list[int] | None, typer.Argument(help="Placements of the person: their ids in TCS.")
    ] = None,
    *,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="Also erase texts from standard input, one a line: a number, an e-mail address, a "
            "full name.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Erase one person: name, numbers and address. Ids and states stay; nothing is sent again."""
    texts = [line.strip() for line in sys.stdin if line.strip()] if stdin else []
    if not placements and not texts:
        raise UsageError("Name placements of the person, or give texts with --stdin.")
    erased = actions.erase(Services(load_settings()), actor(), placements or [], texts)
    if json:
        as_json(erased)
        return
    print_line(
        f"Erased: {erased.records:,} records, {erased.lines:,} lines of files, "
        f"{erased.dead_letters:,} dead letters, {erased.texts:,} other texts, {erased.log_texts:,} "
        "places in the log."
    )
    if erased.open_placements:
        listed = ", ".join(map(str, erased.open_placements))
        error(f"Still to be sent, and not erased: placements {listed}.")
        raise typer.Exit(1)
