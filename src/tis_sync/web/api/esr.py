"""The export to ESR: records, files, commands, dead letters; explain, export and retry."""

from collections.abc import Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from tis_sync import actions
from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import (
    DEANERIES,
    FILE_TYPE_BY_NAME,
    deanery_named,
    file_type_named,
)
from tis_sync.esr.export import explain as explanations
from tis_sync.esr.export import preview as previews
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.export.preview import FilePreview, check_day
from tis_sync.esr.files.numbering import File
from tis_sync.esr.files.store import find_files, get_file, read_contents
from tis_sync.esr.messaging import dead_letters as dead_letter_store
from tis_sync.esr.records import (
    Record,
    RecordOrigin,
    RecordState,
    find_records,
    records_at_risk,
)
from tis_sync.iso_day import IsoDay
from tis_sync.runs.services import Services
from tis_sync.web.api.schemas import PAGE, After, Key, Limit, Page
from tis_sync.web.auth.identity import Caller
from tis_sync.web.dependencies import LARGEST_INTEGER, Servers, Updater, Viewer
from tis_sync.web.presenters.personal_data import FILE_COLUMNS, look, redacted, redacted_record
from tis_sync.web.problems import PROBLEMS

router = APIRouter(prefix="/esr", tags=["export to ESR"], responses=PROBLEMS)
TYPE_NAMES = ", ".join(FILE_TYPE_BY_NAME)


class RecordDetails(BaseModel):
    """A record: one placement at one position, and how far its export is."""

    id: str
    name: str = Field(description="Personal data, as is a reason that quotes values.")
    placement_id: int
    position_id: int
    position_number: int
    post_number: str | None
    deanery: str | None
    start: date
    state: RecordState
    reason: str | None = Field(description="Why it is INVALID_DATA or DELETED_BEFORE_EXPORT.")
    postponed: str | None = Field(description="Why the last file left it for the next one.")
    origin: RecordOrigin
    file: str | None
    changed_at: datetime


class FileContent(BaseModel):
    """What a file contains: the columns of its header, of its records, and of its trailer."""

    header: dict[str, Any]
    records: list[dict[str, Any]]
    trailer: dict[str, Any]


class DeadLetterDetails(BaseModel):
    """A message that could not be used, and why."""

    id: str
    queue: str
    message_id: str | None
    reason: str
    died_at: datetime


class DeadLettersSent(BaseModel):
    """How many dead letters were sent back."""

    sent: int


class ExplanationDetails(BaseModel):
    """Why a placement was exported to ESR, or not."""

    placement: int
    obstacle: str | None = Field(description="Why the placement is not eligible today.")
    lines: list[str]
    records: list[RecordDetails]


class ExportRequest(BaseModel):
    """The files to make or to send again."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"deaneries": ["WES"]}, {"type": "notification"}]},
    )

    deaneries: list[str] | None = Field(
        None, description="Codes of deaneries. Default: all thirteen.", max_length=len(DEANERIES)
    )
    type: str = Field("app", description=f"One of: {TYPE_NAMES}.")
    day: IsoDay | None = Field(None, description="The day of the files. Default: today.")
    previewed: int | None = Field(
        None,
        ge=0,
        description="The number of records in the preview (`GET /esr/exports/preview`). Required "
        "for another day than today; 409 if it is missing or has changed.",
    )
    new: bool = Field(
        False, description="Make a file with a new number for what is unsent, even if the day has "
        "a file."
    )  # fmt: skip


class ExportPreview(BaseModel):
    """What an export would send."""

    day: date
    records: int = Field(description="The number of records in all files: `previewed`.")
    files: list[FilePreview]


@router.get("/records")
def records(
    s: Servers,
    user: Viewer,
    state: Annotated[list[RecordState] | None, Query()] = None,
    deanery: Annotated[list[str] | None, Query()] = None,
    placement: Annotated[int | None, Query(ge=0, lt=LARGEST_INTEGER)] = None,
    limit: Limit = PAGE,
    after: After = None,
) -> Page[RecordDetails]:
    """Records, earliest start first."""
    found = find_records(
        s.state,
        states=state or (),
        deaneries=[deanery_named(code) for code in deanery or ()],
        placement=placement,
        limit=limit + 1,
        after=after,
    )
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=_records(s, user, "records", found[:limit]), next=more)


@router.get("/at-risk")
def at_risk(s: Servers, user: Viewer) -> list[RecordDetails]:
    """Unsent records of starters who start too soon for the next export."""
    return _records(s, user, "records at risk", records_at_risk(s.state, s.clock()))


@router.get("/files")
def files(
    s: Servers,
    day: IsoDay | None = None,
    deanery: str | None = None,
    type: Annotated[str | None, Query()] = None,  # noqa: A002  the name in the URL
    limit: Limit = PAGE,
    after: After = None,
) -> Page[File]:
    """Files, newest first."""
    found = find_files(
        s.state,
        day=day,
        deanery=None if deanery is None else deanery_named(deanery),
        file_type=None if type is None else file_type_named(type),
        limit=limit + 1,
        after=after,
    )
    more = found[limit - 1].name if len(found) > limit else None
    return Page(items=found[:limit], next=more)


@router.get("/files/{name}")
def file(name: str, s: Servers) -> File:
    """A file."""
    return get_file(s.state, name)


@router.get("/files/{name}/content")
def content(name: str, s: Servers, user: Viewer) -> FileContent:
    """What a file contains, line by line. Personal data need the role personal."""
    found = read_contents(s.state, s.settings, get_file(s.state, name))
    rows = found.records.to_dicts()
    if not look(s, user, f"file {name}", [row["line"] for row in rows]):
        rows = [redacted(row, FILE_COLUMNS) for row in rows]
    return FileContent(header=found.header, records=rows, trailer=found.trailer)


@router.get("/commands")
def commands(
    s: Servers, state: CommandState | None = None, limit: Limit = PAGE, after: After = None
) -> Page[Command]:
    """Export commands, newest first."""
    found = Commands(s.state).recent(limit + 1, state, after)
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=found[:limit], next=more)


@router.get("/commands/{command_id}")
def command(command_id: str, s: Servers) -> Command:
    """A command, by its id or the first characters of its id."""
    return Commands(s.state).get(command_id)


@router.post("/exports", status_code=HTTPStatus.ACCEPTED)
def export(s: Servers, user: Updater, request: ExportRequest, key: Key = None) -> list[Command]:
    """Export the files of a day. A file that exists is sent again unchanged."""
    names = request.deaneries or DEANERIES
    return actions.export(
        s,
        user.actor,
        names,
        request.type,
        request.day,
        new=request.new,
        previewed=request.previewed,
        key=key,
    )


@router.get("/exports/preview")
def preview(
    s: Servers,
    deanery: Annotated[list[str] | None, Query()] = None,
    type: Annotated[str, Query(description=f"One of: {TYPE_NAMES}.")] = "app",  # noqa: A002  the name in the URL
    day: IsoDay | None = None,
    new: bool = False,
) -> ExportPreview:
    """What an export would send, deanery by deanery. Nothing is written.

    Records count as of their last refresh, which is usually at most fifteen minutes ago.
    """
    today = london_day(s.clock())
    chosen = day or today
    check_day(s.settings, chosen, today)
    codes = [deanery_named(code) for code in deanery or DEANERIES]
    files = previews.preview(s, codes, file_type_named(type), chosen, new=new)
    return ExportPreview(day=chosen, records=previews.total(files), files=files)


@router.post("/commands/{command_id}/retry", status_code=HTTPStatus.ACCEPTED)
def retry_command(command_id: str, s: Servers, user: Updater) -> Command:
    """Retry a dead command."""
    (revived,) = actions.retry_commands(s, user.actor, [command_id])
    return revived


@router.post("/commands/retry", status_code=HTTPStatus.ACCEPTED)
def retry_all_commands(s: Servers, user: Updater) -> list[Command]:
    """Retry every dead command."""
    return actions.retry_commands(s, user.actor)


@router.get("/dead-letters")
def dead_letters(s: Servers) -> list[DeadLetterDetails]:
    """Messages that could not be used, oldest first."""
    waiting = dead_letter_store.waiting(s.state)
    return [DeadLetterDetails.model_validate(found, from_attributes=True) for found in waiting]


@router.post("/dead-letters/{dead_letter_id}/retry", status_code=HTTPStatus.NO_CONTENT)
def retry_dead_letter(dead_letter_id: str, s: Servers, user: Updater) -> None:
    """Send a dead letter back to the queue in which it died."""
    actions.retry_dead_letters(s, user.actor, [dead_letter_id])


@router.post("/dead-letters/retry")
def retry_all_dead_letters(s: Servers, user: Updater) -> DeadLettersSent:
    """Send every dead letter back to the queue in which it died."""
    return DeadLettersSent(sent=actions.retry_dead_letters(s, user.actor))


@router.post("/dead-letters/{dead_letter_id}/discard", status_code=HTTPStatus.NO_CONTENT)
def discard_dead_letter(dead_letter_id: str, s: Servers, user: Updater) -> None:
    """Delete a dead letter that nobody needs any more; its content is gone."""
    actions.discard_dead_letters(s, user.actor, [dead_letter_id])


@router.get("/explain/{placement}")
def explain(
    placement: Annotated[int, Path(ge=0, lt=LARGEST_INTEGER)], s: Servers, user: Viewer
) -> ExplanationDetails:
    """Why a placement was exported to ESR or not, and what happens next."""
    found = explanations.explain(s, placement, personal=user.sees_personal_data)
    return ExplanationDetails(
        placement=placement,
        obstacle=found.obstacle,
        lines=found.lines,
        records=_records(s, user, f"placement {placement}", found.records),
    )


def _records(
    s: Services, user: Caller, subject: str, found: Sequence[Record]
) -> list[RecordDetails]:
    """Records as the caller may see them."""
    if not look(s, user, subject, [record.placement_id for record in found]):
        found = [redacted_record(record) for record in found]
    return [RecordDetails.model_validate(record, from_attributes=True) for record in found]
