"""The export to ESR: records, files, commands, why a placement has (not) gone; export and retry."""

from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from tis_sync.errors import UsageError
from tis_sync.esr import files as file_store
from tis_sync.esr import records as record_store
from tis_sync.esr.broker import letters as letter_store
from tis_sync.esr.commands import Command, Commands, State
from tis_sync.esr.contents import contents, existing
from tis_sync.esr.deaneries import DEANERIES, deanery_named, file_type_named
from tis_sync.esr.explain import explain as explain_placement
from tis_sync.esr.files import File
from tis_sync.esr.plan import STATES
from tis_sync.web import acts
from tis_sync.web.api.shown import PAGE, Key, Limit, Page
from tis_sync.web.depends import Servers, Updater
from tis_sync.web.problems import PROBLEMS

router = APIRouter(prefix="/esr", tags=["export to ESR"], responses=PROBLEMS)
LARGEST = 2**63  # of a database's integers


class RecordShown(BaseModel):
    """A record: one placement at one position, and how far it is on its way to ESR."""

    id: str
    name: str
    placement_id: int
    position_id: int
    position_number: int
    post_number: str | None
    deanery: str | None
    start: date
    state: str
    reason: str | None
    held: str | None
    source: str
    file: str | None
    changed_at: datetime


class ContentShown(BaseModel):
    """A file, parsed."""

    header: dict[str, Any] | None
    records: list[dict[str, Any]]
    trailer: dict[str, Any] | None
    bad_lines: list[str]


class LetterShown(BaseModel):
    """A message that could not be taken, and why."""

    id: str
    queue: str
    message_id: str | None
    reason: str
    died_at: datetime


class LettersSent(BaseModel):
    """How many dead letters were sent again."""

    sent: int


class StoryShown(BaseModel):
    """The whole story of a placement's way to ESR."""

    placement: int
    obstacle: str | None
    lines: list[str]
    records: list[RecordShown]


class ExportWanted(BaseModel):
    """Which files to make, or to send again."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"deaneries": ["WES"]}, {"type": "notification"}]},
    )

    deaneries: list[str] | None = Field(
        None, description="Their codes; none: all thirteen.", max_length=len(DEANERIES)
    )
    type: str = Field("app", description="app, notification or notification-full.")
    day: date | None = Field(None, description="The day of the files; none: today.")
    new: bool = Field(False, description="Take new numbers, for what is unsent.")


@router.get("/records")
def records(
    s: Servers,
    state: Annotated[list[str] | None, Query()] = None,
    deanery: Annotated[list[str] | None, Query()] = None,
    placement: Annotated[int | None, Query(ge=0, lt=LARGEST)] = None,
    limit: Limit = PAGE,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> Page[RecordShown]:
    """Records, those that start first in front."""
    unknown = set(state or ()) - set(STATES)
    if unknown:
        raise UsageError(f"Unknown state {unknown.pop()!r}; there are {', '.join(STATES)}.")
    found = record_store.records(
        s.state,
        states=state or (),
        deaneries=[deanery_named(code) for code in deanery or ()],
        placement=placement,
        limit=limit + 1,
        after=after,
    )
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=[_record(record) for record in found[:limit]], next=more)


@router.get("/at-risk")
def at_risk(s: Servers) -> list[RecordShown]:
    """Records that the next export can no longer hold."""
    return [_record(record) for record in record_store.at_risk(s.state, s.clock())]


@router.get("/files")
def files(
    s: Servers,
    day: date | None = None,
    deanery: str | None = None,
    type: Annotated[str | None, Query()] = None,  # noqa: A002  what callers write
    limit: Limit = PAGE,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> Page[File]:
    """Files, newest first."""
    found = file_store.files(
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
    """One file."""
    return existing(s.state, name)


@router.get("/files/{name}/content")
def content(name: str, s: Servers) -> ContentShown:
    """What a file says, as it lies at its destination."""
    said = contents(s.settings, existing(s.state, name))
    return ContentShown(
        header=said.header,
        records=said.body.to_dicts(),
        trailer=said.trailer,
        bad_lines=[f"line {bad.number}: {bad.reason}: {bad.text}" for bad in said.bad],
    )


@router.get("/commands")
def commands(
    s: Servers,
    state: State | None = None,
    limit: Limit = PAGE,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> Page[Command]:
    """Export commands, newest first."""
    found = Commands(s.state).recent(limit + 1, state, after)
    more = found[limit - 1].id if len(found) > limit else None
    return Page(items=found[:limit], next=more)


@router.get("/commands/{command_id}")
def command(command_id: str, s: Servers) -> Command:
    """One command, by its id or the beginning of it."""
    return Commands(s.state).get(command_id)


@router.post("/exports", status_code=HTTPStatus.ACCEPTED)
def export(s: Servers, who: Updater, wanted: ExportWanted, key: Key = None) -> list[Command]:
    """Export the files of a day; those that are there already are sent again as they were."""
    chosen = [deanery_named(code) for code in wanted.deaneries or DEANERIES]
    return acts.export(
        s, who, chosen, file_type_named(wanted.type), wanted.day, new=wanted.new, key=key
    )


@router.post("/commands/{command_id}/retry", status_code=HTTPStatus.ACCEPTED)
def retry_command(command_id: str, s: Servers, who: Updater) -> Command:
    """Try a dead command again."""
    return acts.retry_command(s, who, command_id)


@router.post("/commands/retry", status_code=HTTPStatus.ACCEPTED)
def retry_all_commands(s: Servers, who: Updater) -> list[Command]:
    """Try every dead command again."""
    return acts.retry_all_commands(s, who)


@router.get("/letters")
def letters(s: Servers) -> list[LetterShown]:
    """Messages that could not be taken, oldest first."""
    waiting = letter_store.waiting(s.state)
    return [LetterShown.model_validate(letter, from_attributes=True) for letter in waiting]


@router.post("/letters/{letter_id}/retry", status_code=HTTPStatus.NO_CONTENT)
def retry_letter(letter_id: str, s: Servers, who: Updater) -> None:
    """Send a dead letter again to where it died."""
    acts.retry_letter(s, who, letter_id)


@router.post("/letters/retry")
def retry_all_letters(s: Servers, who: Updater) -> LettersSent:
    """Send every dead letter again to where it died."""
    return LettersSent(sent=acts.retry_all_letters(s, who))


@router.get("/explain/{placement}")
def explain(placement: Annotated[int, Path(ge=0, lt=LARGEST)], s: Servers) -> StoryShown:
    """Why has a placement (not) gone to ESR, and what happens next?"""
    told = explain_placement(s, placement)
    return StoryShown(
        placement=placement,
        obstacle=told.obstacle,
        lines=told.lines,
        records=[_record(record) for record in told.records],
    )


def _record(record: record_store.Record) -> RecordShown:
    return RecordShown.model_validate(record, from_attributes=True)
