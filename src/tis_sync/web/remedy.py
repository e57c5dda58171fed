"""What one button mends an alarm, and which part of the runbook speaks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tis_sync.alerts.alarms import Alarm
from tis_sync.esr.deaneries import APP, DEANERIES, FILE_TYPES
from tis_sync.jobs.catalogue import BY_NAME
from tis_sync.runs.run import NIGHT


@dataclass(frozen=True)
class Remedy:
    """What a person can do about an alarm, from the page.

    Attributes:
        look: page that says more.
        label: what the button says; None: there is none, the text says what to do.
        post: where the button leads.
        fields: what it sends.
        runbook: name of the runbook's part.

    """

    look: str
    runbook: str
    label: str | None = None
    post: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def remedy(alarm: Alarm) -> Remedy:
    """The remedy of an alarm."""
    part = alarm.kind.replace(" ", "-").lower()
    look = "/sync/health"
    job = BY_NAME.get(alarm.subject)
    if job is not None:
        look = f"/sync/jobs/{job.key}" if alarm.run_id is None else f"/sync/runs/{alarm.run_id}"
        # To let a held plan through, one has to have seen what it removes: no button for it here.
        if alarm.kind in {"failed", "overdue"}:
            return Remedy(look, part, "Run it now", f"/sync/jobs/{job.key}/run")
        return Remedy(look, part)
    if alarm.kind == "silent":
        return Remedy("/sync/", part, "Run the night now", f"/sync/{NIGHT}")
    return _of_export(alarm, part)


def _of_export(alarm: Alarm, part: str) -> Remedy:
    look = "/sync/esr"
    words = alarm.subject.split()
    if alarm.kind in {"at risk", "stuck"} and alarm.subject in DEANERIES:
        sent = {"deanery": alarm.subject, "type": "app", "new": "yes"}
        return Remedy(look, part, f"Export {alarm.subject} now", "/sync/esr/export", sent)
    if alarm.kind == "no file" and words[-1] in DEANERIES:
        name = next(name for name, code in FILE_TYPES.items() if code == words[0])
        sent = {"deanery": words[-1], "type": name}
        return Remedy(look, part, f"Export {words[-1]} now", "/sync/esr/export", sent)
    if alarm.kind == "too late":
        return Remedy(f"/sync/esr?placement={words[-1]}", part)
    if alarm.kind == "drift":
        return Remedy("/sync/health", part)
    known = {"dead", "dead letters", "invalid", "TCS not told", "stale", "not heard"}
    return Remedy(look if alarm.kind in known or words[0] == APP else "/sync/health", part)
