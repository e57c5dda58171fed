"""The export to ESR: records at risk, explanations, failures, the deaneries by day, files."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tis_sync import actions
from tis_sync.errors import PreviewNeededError
from tis_sync.esr.calendar import london_day, next_due
from tis_sync.esr.deaneries import DEANERIES, FileType, deanery_named, file_type_named
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.explain import explain
from tis_sync.esr.export.preview import check_day, preview, total
from tis_sync.esr.files.numbering import File
from tis_sync.esr.files.store import find_files, get_file, read_contents
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.records import RecordState, count_records, find_records, records_at_risk
from tis_sync.iso_day import IsoDay
from tis_sync.runs.services import Services
from tis_sync.web.auth.identity import Caller
from tis_sync.web.dependencies import LARGEST_INTEGER, Servers, Updater, Viewer
from tis_sync.web.pages.common import Checkbox, Key, redirect
from tis_sync.web.presenters.personal_data import FILE_COLUMNS, look, redacted, redacted_record
from tis_sync.web.templates import page

router = APIRouter(prefix="/esr")
INVALID_LISTED = AT_RISK_LISTED = 25
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
    day: IsoDay | None = None,
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
    at_risk = records_at_risk(s.state, now)
    invalid = find_records(s.state, states=[RecordState.INVALID_DATA], limit=INVALID_LISTED)
    visible = [*at_risk[:AT_RISK_LISTED], *invalid]
    if not look(s, user, "records", [record.placement_id for record in visible]):
        at_risk = [redacted_record(record) for record in at_risk]
        invalid = [redacted_record(record) for record in invalid]
    return page(
        request,
        "esr.html",
        user=user,
        next_app=next_due(FileType.APP, now),
        at_risk=at_risk,
        at_risk_listed=AT_RISK_LISTED,
        placement=placement,
        explanation=_explanation(s, user, placement.strip()),
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
        invalid=invalid,
    )


def _explanation(s: Services, user: Caller, placement: str) -> list[str] | None:
    if not placement:
        return None
    if not (placement.isascii() and placement.isdecimal()):
        return [f"{placement!r} is not a placement number; it consists of digits only."]
    found = explain(s, int(placement), personal=user.sees_personal_data)
    look(s, user, f"placement {placement}", [record.placement_id for record in found.records])
    return found.lines


@router.get("/files/{name}")
def show_file(name: str, request: Request, s: Servers, user: Viewer) -> HTMLResponse:
    """What a file contains: the main columns of its records."""
    file = get_file(s.state, name)
    records = read_contents(s.state, s.settings, file).records.drop("line", strict=False)
    filled = [column for column in records.columns if records[column].null_count() < records.height]
    columns = filled[:COLUMNS_LISTED]
    rows = records.head(RECORDS_LISTED).select(columns).to_dicts()
    if not look(s, user, f"file {name}", range(1, len(rows) + 1)):
        rows = [redacted(row, FILE_COLUMNS) for row in rows]
    return page(
        request,
        "file.html",
        user=user,
        file=file,
        columns=columns,
        rows=rows,
        more=records.height > RECORDS_LISTED,
    )


@router.post("/export", response_model=None)
def export(
    request: Request,
    s: Servers,
    user: Updater,
    deanery: Annotated[str, Form()],
    type_: Annotated[str, Form(alias="type")] = "app",
    day: Annotated[IsoDay | None, Form()] = None,
    new: Checkbox = False,
    previewed: Annotated[int | None, Form(ge=0, lt=LARGEST_INTEGER)] = None,
    key: Key = None,
) -> Response:
    """Export the files of one deanery or all, and show their day.

    For another day than today, the preview is shown first; its button sends `previewed`.
    """
    names = DEANERIES if deanery == ALL else (deanery,)
    today = london_day(s.clock())
    changed = False
    if day in {None, today} or previewed is not None:
        try:
            actions.export(
                s, user.actor, names, type_, day, new=new, previewed=previewed, key=key or None
            )
        except PreviewNeededError:  # the number has changed, or midnight has passed
            changed = True
        else:
            return redirect(f"/sync/esr?day={day or today}#day")
    assert day is not None
    with actions.requested(s, user.actor, "export", f"{type_} {' '.join(names)}"):
        codes = [deanery_named(name) for name in names]
        file_type = file_type_named(type_)
        check_day(s.settings, day, today)
    if file_type == FileType.APP:
        actions.refresh_records(s, user.actor)  # the preview must know what the export will
    files = preview(s, codes, file_type, day, new=new)
    fields = {
        "deanery": deanery,
        "type": type_,
        "day": day,
        "previewed": total(files),
        "new": "yes" if new else None,
        "key": key,
    }
    return page(
        request,
        "export.html",
        user=user,
        file_type=file_type,
        day=day,
        today=today,
        files=files,
        records=total(files),
        changed=changed,
        fields={name: value for name, value in fields.items() if value is not None},
    )


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
