"""The export: the deaneries by day, who is at risk, why one has not gone; export, try again."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from tis_sync.esr import files as file_store
from tis_sync.esr import records as record_store
from tis_sync.esr.broker import letters
from tis_sync.esr.commands import Commands
from tis_sync.esr.contents import contents, existing
from tis_sync.esr.deaneries import (
    APP,
    DEANERIES,
    deanery_named,
    file_type_named,
    london_day,
    next_due,
)
from tis_sync.esr.explain import explain
from tis_sync.esr.plan import INVALID
from tis_sync.web import acts
from tis_sync.web.depends import Servers, Updater, Viewer
from tis_sync.web.pages.common import Key, Ticked, see
from tis_sync.web.templates import page

router = APIRouter(prefix="/esr")
INVALID_LISTED = 25
LINES_LISTED = 200
COLUMNS_SHOWN = 8
FILES_A_DAY = 500  # far more than a day has
ALL = "all"


@dataclass(frozen=True)
class Row:
    """A deanery on a day: its files, and its records by state."""

    deanery: str
    files: list[file_store.File]
    counts: dict[str, int]


@router.get("")
def show(
    request: Request,
    s: Servers,
    who: Viewer,
    day: date | None = None,
    placement: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """The page."""
    now = s.clock()
    today = london_day(now)
    day = min(day or today, today)
    files: dict[str, list[file_store.File]] = defaultdict(list)
    for file in file_store.files(s.state, day=day, limit=FILES_A_DAY):
        files[file.deanery].append(file)
    counted = record_store.counts(s.state)
    commands = Commands(s.state)
    rows = [
        Row(code, files[code], {state: n for (of, state), n in counted.items() if of == code})
        for code in DEANERIES
    ]
    return page(
        request,
        "esr.html",
        who=who,
        next_app=next_due(APP, now),
        at_risk=record_store.at_risk(s.state, now),
        placement=placement,
        story=_story(s, placement.strip()),
        commands=commands.in_state("dead"),
        letters=letters.waiting(s.state),
        under_way=len(commands.in_state("queued", "running")),
        day=day,
        today=today,
        before=day - timedelta(days=1),
        after=day + timedelta(days=1),
        rows=rows,
        deaneries=DEANERIES,
        choices=[(code, code) for code in DEANERIES],
        invalid=record_store.records(s.state, states=[INVALID], limit=INVALID_LISTED),
    )


def _story(s: Servers, placement: str) -> list[str] | None:
    if not placement:
        return None
    if not (placement.isascii() and placement.isdecimal()):
        return [f"{placement!r} is not the number of a placement: digits only."]
    return explain(s, int(placement)).lines


@router.get("/files/{name}")
def show_file(name: str, request: Request, s: Servers, who: Viewer) -> HTMLResponse:
    """What a file says, as a table of its main columns."""
    file = existing(s.state, name)
    said = contents(s.settings, file)
    body = said.body
    filled = [column for column in body.columns if body[column].null_count() < body.height]
    return page(
        request,
        "file.html",
        who=who,
        file=file,
        said=said,
        columns=filled[:COLUMNS_SHOWN],
        rows=body.head(LINES_LISTED).to_dicts(),
        more=body.height > LINES_LISTED,
    )


@router.post("/export")
def export(
    s: Servers,
    who: Updater,
    deanery: Annotated[str, Form()],
    type_: Annotated[str, Form(alias="type")] = "app",
    day: Annotated[date | None, Form()] = None,
    new: Ticked = False,
    key: Key = None,
) -> RedirectResponse:
    """Export a deanery's file, or all of them, and show the day."""
    chosen = DEANERIES if deanery == ALL else (deanery_named(deanery),)
    acts.export(s, who, chosen, file_type_named(type_), day, new=new, key=key or None)
    return see(f"/sync/esr?day={day or london_day(s.clock())}#day")


@router.post("/commands/{command_id}/retry")
def retry_command(command_id: str, s: Servers, who: Updater) -> RedirectResponse:
    """Try a dead command again."""
    command = acts.retry_command(s, who, command_id)
    return see(f"/sync/esr?day={command.day}#day")


@router.post("/commands/retry")
def retry_all_commands(s: Servers, who: Updater) -> RedirectResponse:
    """Try every dead command again."""
    acts.retry_all_commands(s, who)
    return see("/sync/esr#day")


@router.post("/letters/{letter_id}/retry")
def retry_letter(letter_id: str, s: Servers, who: Updater) -> RedirectResponse:
    """Send a dead letter again."""
    acts.retry_letter(s, who, letter_id)
    return see("/sync/esr#dead")


@router.post("/letters/retry")
def retry_all_letters(s: Servers, who: Updater) -> RedirectResponse:
    """Send every dead letter again."""
    acts.retry_all_letters(s, who)
    return see("/sync/esr#dead")
