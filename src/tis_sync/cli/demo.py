"""The demo: a synthetic TCS, the whole night on it, a search, and an export to ESR."""

import time
from typing import Annotated

import typer

from tis_sync import actions
from tis_sync.app import command_session
from tis_sync.cli.esr import wait_for_commands
from tis_sync.cli.inspect import print_search
from tis_sync.cli.output import print_line
from tis_sync.cli.process import actor
from tis_sync.cli.run import exit_code, follow_night
from tis_sync.demo.draw import Size
from tis_sync.demo.generate import generate, people_in
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.errors import UsageError
from tis_sync.esr.calendar import EXPORT_AT, london_day
from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.export.explain import explain
from tis_sync.esr.records import RecordState, find_records
from tis_sync.runs.run import RunOptions
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings
from tis_sync.urls import redacted_url

PEOPLE = 20_000
SEARCH_TEXT, SEARCH_FILTER = "mul", "grade=ST3"


def demo(
    *,
    people: Annotated[
        int | None, typer.Option(min=1, help=f"How many people to create. Default: {PEOPLE:,}.")
    ] = None,
    seed: Annotated[int, typer.Option(help="A different seed gives different data.")] = 1,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Only create the data; run nothing.")
    ] = False,
    legacy_state: Annotated[
        bool,
        typer.Option(
            help="Fill the derived tables as the Java service would have left them, with errors."
        ),
    ] = True,
) -> None:
    """Create a synthetic TCS (once), run a whole night on it, search, and export to ESR."""
    settings = load_settings()
    _make_data(settings, people, seed, legacy_state=legacy_state)
    if data_only:
        return
    night = follow_night(settings, RunOptions())
    _print_command(f"search persons {SEARCH_TEXT} --where {SEARCH_FILTER}")
    s = Services(settings)
    print_search(s, "persons", SEARCH_TEXT, [SEARCH_FILTER], limit=5, json=False)
    _print_command("esr export --all")
    _export(settings)
    raise typer.Exit(exit_code(night))


def _print_command(arguments: str) -> None:
    """Print the command whose output follows."""
    print_line()
    print_line(f"tis-sync {arguments}", "bold")


def _make_data(settings: Settings, people: int | None, seed: int, *, legacy_state: bool) -> None:
    """Fill TCS, unless it is embedded and already contains people.

    Raises:
        UsageError: TCS already contains people, and is not embedded, or another number was asked
            for.

    """
    s = Services(settings)
    existing = people_in(s.tcs())
    if existing and settings.tcs_url is not None:
        raise UsageError(
            f"TCS already contains {existing:,} people, and synthetic data is only written into an "
            "empty database. To run the night on the existing data: `tis-sync night`."
        )
    if existing and people not in {None, existing}:
        raise UsageError(
            f"TCS already contains {existing:,} people, not {people:,}. Leave --people out to use "
            f"them, or set TIS_SYNC_HOME to a new folder (now {settings.home}) to create others."
        )
    if existing:
        print_line(f"Synthetic TCS with {existing:,} people: it already exists.")
    else:
        started = time.monotonic()
        derive = legacy_tables if legacy_state else None
        size = Size(people or PEOPLE, seed)
        rows = generate(s.tcs(), size, s.clock().date(), derive)
        print_line(
            f"Synthetic TCS with {size.people:,} people: {sum(rows.values()):,} rows "
            f"in {len(rows)} tables, {time.monotonic() - started:.1f} s."
        )
    s.close()


def _export(settings: Settings) -> None:
    """Export today's files of all deaneries, and explain a placement that none of them contains."""
    for file_type in EXPORT_AT:
        with command_session(settings) as s:
            day = london_day(s.clock())
            key = f"demo {file_type} {day}"  # a second demo on the same day shows the same files
            commands = actions.export(s, actor(), DEANERIES, file_type, day, key=key)
            files = wait_for_commands(s, [command.id for command in commands])
        records = sum(file.records for file in files)
        destination = redacted_url(settings.export())
        print_line(f"{len(files)} {file_type} files with {records:,} records in {destination}")
    s = Services(settings)
    for record in find_records(s.state, states=[RecordState.INVALID_DATA], limit=1):
        _print_command(f"esr explain {record.placement_id}")
        for line in explain(s, record.placement_id).lines:
            print_line(line)
