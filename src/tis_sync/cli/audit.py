"""Commands for the audit log: list it, and check that nobody has changed it."""

from typing import Annotated

import typer

from tis_sync import audit
from tis_sync.cli.output import Json, as_json, error, out, table
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings


def list_entries(
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


def verify(
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
        out.print(f"{found.entries:,} entries with a hash{older}.")
        if found.last_id is not None:
            out.print(f"The last one is {found.last_id}, with the hash {found.last_hash}")
        if not found.faults:
            out.print("No entry was changed or removed.")
    raise typer.Exit(int(bool(found.faults)))
