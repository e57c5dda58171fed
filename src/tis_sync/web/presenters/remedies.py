"""What a page offers about an alarm: a link to what it is about, the runbook, and a button.

All of it follows from the alarm's kind in the catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tis_sync.alarms.catalogue import DEAD_LETTERS, TOO_LATE, Action, AlarmKind
from tis_sync.alarms.store import Alarm
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.jobs.catalogue import JOB_BY_NAME


@dataclass(frozen=True)
class Button:
    """A button that starts something.

    Attributes:
        label: its text.
        path: where its form is sent.
        fields: what its form contains.

    """

    label: str
    path: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remedy:
    """What a person can do about an alarm, from a page.

    Attributes:
        page: the page about the alarm's subject.
        runbook: the part of the runbook about the alarm's kind.
        button: None: there is none; the alarm's text says what to do.

    """

    page: str
    runbook: str
    button: Button | None


def remedy_of(alarm: Alarm) -> Remedy:
    """Return the remedy of an alarm."""
    return Remedy(_page(alarm), runbook_path(alarm.kind), _button(alarm))


def runbook_path(kind: AlarmKind) -> str:
    """Return the path of the part of the runbook about a kind of alarm."""
    document = "" if kind.runbook == "runbook" else f"/{kind.runbook}"
    return f"/sync/runbook{document}#{kind.anchor}"


def _page(alarm: Alarm) -> str:
    kind = alarm.kind
    if alarm.run_id is not None:
        return f"/sync/runs/{alarm.run_id}"
    if alarm.subject in JOB_BY_NAME:
        return f"/sync/jobs/{JOB_BY_NAME[alarm.subject].key}"
    if kind == TOO_LATE:
        return f"/sync/esr?placement={alarm.subject.split()[-1]}#why"
    if kind.runbook == "esr" or kind == DEAD_LETTERS:
        return "/sync/esr"
    return "/sync/" if kind.action is Action.RUN_NIGHT else "/sync/health"


def _button(alarm: Alarm) -> Button | None:
    match alarm.kind.action, alarm.subject.split():
        case Action.RUN_JOB, [name] if name in JOB_BY_NAME:
            return Button("Run now", f"/sync/jobs/{JOB_BY_NAME[name].key}/run")
        case Action.RUN_NIGHT, _:
            return Button("Run the night now", "/sync/night")
        case Action.EXPORT_UNSENT, [deanery] if deanery in DEANERIES:
            return _export(deanery, type="app", new="yes")
        case Action.EXPORT_FILE, [code, deanery] if deanery in DEANERIES:
            return _export(deanery, type=FileType(code).option)
    return None


def _export(deanery: str, **fields: str) -> Button:
    return Button(f"Export {deanery} now", "/sync/esr/export", {"deanery": deanery, **fields})
