"""The checklist of everything that the service relies on."""

import typer

from tis_sync.cli.app import Json, app
from tis_sync.console import as_json, out, table
from tis_sync.doctor import examine
from tis_sync.runs.services import Services
from tis_sync.settings import load_settings

STYLE = {"ok": "green", "drifted": "yellow", "missing": "red"}


@app.command()
def doctor(*, json: Json = False) -> None:
    """Check everything that the service relies on, and say how to mend it. Exit code 1: drift."""
    found = examine(Services(load_settings()))
    bad = [finding for finding in found if finding.state != "ok"]
    if json:
        as_json(found)
    else:
        table(
            None,
            ("what", "state", "found", "how to mend it"),
            [(f.name, f"[{STYLE[f.state]}]{f.state}[/]", f.said, f.mend or "") for f in found],
        )
        out.print(f"{len(found) - len(bad)} of {len(found)} are as they should be.")
    raise typer.Exit(int(bool(bad)))
