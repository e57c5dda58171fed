"""The command that checks everything the service relies on."""

import typer

from tis_sync.alarms.check_state import CheckState
from tis_sync.app import examine
from tis_sync.cli.output import Json, as_json, print_line, styled, table
from tis_sync.doctor.finding import FAILED, summary
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings

STYLES = {
    CheckState.OK: "green",
    CheckState.DRIFTED: "yellow",
    CheckState.MISSING: "red",
    CheckState.NOT_CHECKED: "dim",
}


def doctor(*, json: Json = False) -> None:
    """Check everything that the service relies on. Exit code 1: a check failed.

    An open alarm is a failed check; what could not be checked is not.
    """
    findings = examine(Services(load_settings()))
    if json:
        as_json(findings)
    else:
        table(
            None,
            ("check", "state", "found", "remedy"),
            [
                (f.name, styled(f.state, STYLES[f.state]), f.message, f.remedy or "")
                for f in findings
            ],
        )
        print_line(summary(findings))
    raise typer.Exit(int(any(finding.state in FAILED for finding in findings)))
