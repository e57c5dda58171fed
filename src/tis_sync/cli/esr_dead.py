"""Commands for what failed permanently: export commands, and dead letters of the broker."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from tis_sync import actions
from tis_sync.app import command_session
from tis_sync.cli.esr import follow
from tis_sync.cli.output import Json, as_json, error, print_line, table
from tis_sync.cli.process import actor
from tis_sync.errors import TisSyncError, UnreachableError, UsageError
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.connection import connected
from tis_sync.esr.messaging.dead_letters import DeadLetter
from tis_sync.esr.messaging.drift import queue_counts
from tis_sync.esr.messaging.topology import topology
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings


def list_dead(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many dead letters at most.")] = 50,
    json: Json = False,
) -> None:
    """List dead export commands and dead letters, each with its reason."""
    settings = load_settings()
    state = Services(settings).state
    commands, letters = Commands(state).in_state(CommandState.DEAD), dead_letters.waiting(state)
    if json:
        as_json(
            {
                "commands": [asdict(command) for command in commands],
                "dead_letters": [asdict(letter) | {"body": _text(letter)} for letter in letters],
            }
        )
        return
    if commands or not letters:
        _commands_table(commands)
    if letters:
        _letters_table(letters[:limit])
    print_line(f"In total {len(commands):,} dead commands, {_count(len(letters))}.")
    if settings.broker_url is not None:
        _print_unfetched(settings)


def _commands_table(commands: list[Command]) -> None:
    table(
        None,
        ("command", "type", "deanery", "day", "attempts", "since (UTC)", "reason"),
        [
            (
                c.id[:8], c.file_type, c.deanery, str(c.day), c.attempts, c.finished_at,
                c.error,
            )
            for c in commands
        ],
    )  # fmt: skip


def _letters_table(letters: list[DeadLetter]) -> None:
    table(
        None,
        ("dead letter", "queue", "died (UTC)", "message id", "reason"),
        [(x.id[:8], x.queue, x.died_at, x.message_id, x.reason) for x in letters],
    )


def _count(letters: int) -> str:
    return f"{letters:,} dead letter{'s' * (letters != 1)}"


def _text(letter: DeadLetter) -> str:
    return letter.body.decode(errors="replace")


def _print_unfetched(settings: Settings) -> None:
    """Print how many dead letters, not in the list, no consumer has fetched yet."""
    try:
        unfetched = asyncio.run(_count_unfetched(settings))
    except TisSyncError as failure:
        error(f"{failure} Dead letters that no consumer has fetched are not listed.")
        return
    if unfetched:
        error(
            f"{unfetched:,} more are waiting at the broker. They are listed as soon as "
            "`tis-sync work` or `tis-sync esr listen` has fetched them."
        )


async def _count_unfetched(settings: Settings) -> int:
    async with connected(settings) as connection:
        counts = await queue_counts(connection, topology(settings).dead_letters.name)
    return 0 if counts is None else counts.messages


def retry(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of commands and dead letters; or --all.")
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Everything that is dead.")] = False,
    json: Json = False,
) -> None:
    """Retry dead commands, and send dead letters back to the queues in which they died."""
    if bool(ids) == all_:
        raise UsageError("Name commands or dead letters (`tis-sync esr dead list`), or use --all.")
    settings = load_settings()
    s = Services(settings)
    if ids is None:
        commands, letters = _dead(s)
    else:
        with actions.requested(s, actor(), "retry", " ".join(ids)):
            commands, letters = _named(s, ids)
    refusal = None
    if letters:
        try:
            # With --all, the action looks up again what is dead: others may be retrying too.
            sent = actions.retry_dead_letters(s, actor(), None if all_ else letters)
            if not json:
                print_line(f"Sent back: {_count(sent)}.")
        except UnreachableError as failure:  # dead commands do not need the broker
            refusal = failure
    if commands:
        try:
            with command_session(settings) as worker:
                retried = actions.retry_commands(worker, actor(), None if all_ else commands)
                follow(worker, [command.id for command in retried], json=json)
        except typer.Exit:
            if refusal is None:
                raise
    elif json:
        as_json([])
    elif not letters:
        print_line("Nothing is dead.")
    if refusal is not None:
        raise refusal


def discard(
    ids: Annotated[list[str], typer.Argument(help="Ids of dead letters.")],
    *,
    json: Json = False,
) -> None:
    """Delete dead letters that nobody needs any more; their content is gone."""
    discarded = actions.discard_dead_letters(Services(load_settings()), actor(), ids)
    if json:
        as_json({"discarded": discarded})
    else:
        print_line(f"Discarded: {_count(discarded)}.")


def _dead(s: Services) -> tuple[list[str], list[str]]:
    """The ids of all dead commands, and of all dead letters."""
    commands = Commands(s.state).in_state(CommandState.DEAD)
    return [c.id for c in commands], [letter.id for letter in dead_letters.waiting(s.state)]


def _named(s: Services, names: list[str]) -> tuple[list[str], list[str]]:
    """The ids of the commands and dead letters that the names refer to.

    Raises:
        UsageError: a name matches no command and no dead letter, or more than one.

    """
    waiting = dead_letters.waiting(s.state)
    commands: list[str] = []
    letters: list[str] = []
    for name in names:
        if any(letter.id.startswith(name) for letter in waiting):
            letters.append(dead_letters.get(s.state, name).id)
        else:
            commands.append(Commands(s.state).get(name).id)
    return commands, letters
