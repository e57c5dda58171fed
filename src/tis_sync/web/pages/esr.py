"""The export to ESR: records at risk, explanations, failures, the deaneries by day, files."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from tis_sync import actions
from tis_sync.esr.calendar import london_day, next_due
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.explain import explain
from tis_sync.esr.files.numbering import File
from tis_sync.esr.files.store import find_files, get_file, read_contents
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.records import RecordState, count_records, find_records, records_at_risk
from tis_sync.runs.services import Services
from tis_sync.web.dependencies import Servers, Updater, Viewer
from tis_sync.web.pages.common import Checkbox, Key, redirect
from tis_sync.web.templates import page

router = APIRouter(prefix="/esr")
INVALID_LISTED = 25
RECORDS_LISTED = 200
COLUMNS_LISTED = 8
FILES_PER_DAY = 500  # far more than a day has
ALL = "all"


@dataclass(frozen=True)
class Row:
    """A deanery on a day: its files, and its records by state."""

    deanery: str
    files: list[File]
    counts: dict[RecordState, int]


@router.get("")
def show(
    request: Request,
    s: Servers,
    user: Viewer,
    day: date | None = None,
    placement: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """The page."""
    now = s.clock()
    today = london_day(now)
    day = min(day or today, today)
    files: dict[str, list[File]] = defaultdict(list)
    for file in find_files(s.state, day=day, limit=FILES_PER_DAY):
        files[file.deanery].append(file)
    counts: dict[str, dict[RecordState, int]] = defaultdict(dict)
    for (deanery, state), count in count_records(s.state).items():
        counts[deanery][state] = count
    commands = Commands(s.state)
    active = commands.in_state(CommandState.QUEUED, CommandState.RUNNING)
    return page(
        request,
        "esr.html",
        user=user,
        next_app=next_due(FileType.APP, now),
        at_risk=records_at_risk(s.state, now),
        placement=placement,
        explanation=_explanation(s, placement.strip()),
        commands=commands.in_state(CommandState.DEAD),
        dead_letters=dead_letters.waiting(s.state),
        active=len(active),
        day=day,
        today=today,
        day_before=day - timedelta(days=1),
        day_after=day + timedelta(days=1),
        rows=[Row(code, files[code], counts[code]) for code in DEANERIES],
        deaneries=DEANERIES,
        choices=[(code, code) for code in DEANERIES],
        invalid=find_records(s.state, states=[RecordState.INVALID_DATA], limit=INVALID_LISTED),
    )


def _explanation(s: Services, placement: str) -> list[str] | None:
    if not placement:
        return None
    if not (placement.isascii() and placement.isdecimal()):
        return [f"{placement!r} is not a placement number; it consists of digits only."]
    return explain(s, int(placement)).lines


@router.get("/files/{name}")
def show_file(name: str, request: Request, s: Servers, user: Viewer) -> HTMLResponse:
    """What a file contains: the main columns of its records."""
    file = get_file(s.state, name)
    records = read_contents(s.state, s.settings, file).records.drop("line", strict=False)
    filled = [column for column in records.columns if records[column].null_count() < records.height]
    return page(
        request,
        "file.html",
        user=user,
        file=file,
        columns=filled[:COLUMNS_LISTED],
        rows=records.head(RECORDS_LISTED).to_dicts(),
        more=records.height > RECORDS_LISTED,
    )


@router.post("/export")
def export(
    s: Servers,
    user: Updater,
    deanery: Annotated[str, Form()],
    type_: Annotated[str, Form(alias="type")] = "app",
    day: Annotated[date | None, Form()] = None,
    new: Checkbox = False,
    key: Key = None,
) -> RedirectResponse:
    """Export the files of one deanery or all, and show their day."""
    names = DEANERIES if deanery == ALL else (deanery,)
    actions.export(s, user.actor, names, type_, day, new=new, key=key or None)
    return redirect(f"/sync/esr?day={day or london_day(s.clock())}#day")


@router.post("/commands/{command_id}/retry")
def retry_command(command_id: str, s: Servers, user: Updater) -> RedirectResponse:
    """Retry a dead command."""
    (command,) = actions.retry_commands(s, user.actor, [command_id])
    return redirect(f"/sync/esr?day={command.day}#day")


@router.post("/commands/retry")
def retry_all_commands(s: Servers, user: Updater) -> RedirectResponse:
    """Retry every dead command."""
    actions.retry_commands(s, user.actor)
    return redirect("/sync/esr#day")


@router.post("/dead-letters/{dead_letter_id}/retry")
def retry_dead_letter(dead_letter_id: str, s: Servers, user: Updater) -> RedirectResponse:
    """Send a dead letter back to its queue."""
    actions.retry_dead_letters(s, user.actor, [dead_letter_id])
    return redirect("/sync/esr#failed")


@router.post("/dead-letters/retry")
def retry_all_dead_letters(s: Servers, user: Updater) -> RedirectResponse:
    """Send every dead letter back to its queue."""
    actions.retry_dead_letters(s, user.actor)
    return redirect("/sync/esr#failed")


@router.post("/dead-letters/{dead_letter_id}/discard")
def discard_dead_letter(dead_letter_id: str, s: Servers, user: Updater) -> RedirectResponse:
    """Delete a dead letter that nobody needs any more."""
    actions.discard_dead_letters(s, user.actor, [dead_letter_id])
    return redirect("/sync/esr#failed")
