"""What failed for good, and waits for a person: export commands, and messages of the broker."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from tis_sync.cli.app import Json
from tis_sync.cli.esr import esr_app, follow
from tis_sync.console import as_json, error, out, table
from tis_sync.errors import TisSyncError, UsageError
from tis_sync.esr.broker import letters
from tis_sync.esr.broker.connect import connected
from tis_sync.esr.broker.look import counts
from tis_sync.esr.broker.topology import topology
from tis_sync.esr.commands import Command, Commands
from tis_sync.esr.workflows import start
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.settings import Settings, load_settings

dead_app = typer.Typer(
    help="Export commands that failed for good, and dead letters.", no_args_is_help=True
)
esr_app.add_typer(dead_app, name="dead")


@dead_app.command("list")
def dead_list(
    *,
    limit: Annotated[int, typer.Option(min=1, help="So many letters at the most.")] = 50,
    json: Json = False,
) -> None:
    """List the commands that failed for good, and dead letters, each with its reason."""
    settings = load_settings()
    state = Services(settings).state
    commands, found = Commands(state).in_state("dead"), letters.waiting(state)
    if json:
        shown = [asdict(letter) | {"body": _text(letter)} for letter in found]
        as_json({"commands": [asdict(command) for command in commands], "letters": shown})
        return
    if commands or not found:
        table(
            None,
            ("command", "type", "deanery", "day", "attempts", "since (UTC)", "reason"),
            [
                (
                    c.id[:8], c.file_type, c.deanery, str(c.day), c.attempts, c.finished_at,
                    escape(str(c.error)),
                )
                for c in commands
            ],
        )  # fmt: skip
    if found:
        table(
            None,
            ("letter", "queue", "died (UTC)", "message id", "reason"),
            [
                (x.id[:8], x.queue, x.died_at, escape(x.message_id or "-"), escape(x.reason))
                for x in found[:limit]
            ],
        )
    out.print(f"In all {len(commands):,} dead commands, {_letters(len(found))}.")
    if settings.broker_url is not None:
        _say_what_waits(settings)


def _letters(number: int) -> str:
    return f"{number:,} dead letter{'s' * (number != 1)}"


def _text(letter: letters.Letter) -> str:
    return letter.body.decode(errors="replace")


def _say_what_waits(settings: Settings) -> None:
    """Letters that no listener has taken yet; the list does not hold them."""
    try:
        waiting = asyncio.run(_untaken(settings))
    except TisSyncError as trouble:
        error(f"{trouble} Letters that died there since are not listed.")
        return
    if waiting:
        error(
            f"{waiting:,} more wait at the broker: they are listed when `tis-sync work`, or "
            "`tis-sync esr listen`, has taken them."
        )


async def _untaken(settings: Settings) -> int:
    async with connected(settings) as connection:
        there = await counts(connection, topology(settings).letters)
    return 0 if there is None else there.messages


@dead_app.command("retry")
def dead_retry(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of commands and letters; or --all.")
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
    json: Json = False,
) -> None:
    """Try dead commands again, and send dead letters again to where they died."""
    if bool(ids) == all_:
        raise UsageError("Name commands or letters (`tis-sync esr dead list`), or say --all.")
    settings = load_settings()
    services = Services(settings)
    commands, chosen = _chosen(services, ids)
    if chosen:
        asyncio.run(letters.send_again(settings, services.state, chosen, services.clock()))
        if not json:
            out.print(f"Sent again: {_letters(len(chosen))}.")
    if not commands:
        if json:
            as_json([])
        elif not chosen:
            out.print("Nothing is dead.")
        return
    with session(settings) as s:
        revived = [Commands(s.state).revive(command.id) for command in commands]
        start(revived)
        follow(s, [command.id for command in revived], json=json)


def _chosen(s: Services, ids: list[str] | None) -> tuple[list[Command], list[letters.Letter]]:
    """The commands and the letters of these ids; None: all that are dead.

    Raises:
        UsageError: an id names nothing, or several.

    """
    commands = Commands(s.state)
    if ids is None:
        return commands.in_state("dead"), letters.waiting(s.state)
    waiting = letters.waiting(s.state)
    found: tuple[list[Command], list[letters.Letter]] = ([], [])
    for name in ids:
        if any(letter.id.startswith(name) for letter in waiting):
            found[1].append(letters.named(s.state, name))
        else:
            found[0].append(commands.get(name))
    return found
