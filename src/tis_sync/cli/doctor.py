"""The command that checks everything the service relies on."""

import typer

from tis_sync.alarms.check_state import CheckState
from tis_sync.cli.output import Json, as_json, out, table
from tis_sync.doctor import examine
from tis_sync.runs.services import Services
from tis_sync.settings import load_settings

STYLES = {CheckState.OK: "green", CheckState.DRIFTED: "yellow", CheckState.MISSING: "red"}


def doctor(*, json: Json = False) -> None:
    """Check everything that the service relies on. Exit code 1: a check failed."""
    findings = examine(Services(load_settings()))
    failed = [finding for finding in findings if finding.state != CheckState.OK]
    if json:
        as_json(findings)
    else:
        table(
            None,
            ("check", "state", "found", "remedy"),
            [
                (f.name, f"[{STYLES[f.state]}]{f.state}[/]", f.message, f.remedy or "")
                for f in findings
            ],
        )
        out.print(f"{len(findings) - len(failed)} of {len(findings)} checks passed.")
    raise typer.Exit(int(bool(failed)))
