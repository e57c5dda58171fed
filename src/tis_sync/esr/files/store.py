"""The recorded files: find them, render their bytes, read their contents, mark progress."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, TisSyncError
from tis_sync.esr.calendar import LONDON
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import (
    CREATED_DATE,
    CREATED_TIME,
    LINE_END,
    field_values,
    render,
    render_lines,
)
from tis_sync.esr.files.layout import SETTING, Layout
from tis_sync.esr.files.numbering import File, file_from_row
from tis_sync.esr.records import RecordState
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t


@dataclass(frozen=True)
class FileContents:
    """What a file contains, by the field names of its layout.

    Attributes:
        header, trailer: their values.
        records: one row for each record: `line` (its number in the file, from 1), and one text
            column for each field.

    """

    header: dict[str, str | None]
    records: pl.DataFrame
    trailer: dict[str, str | None]


def find_file(state: Database, name: str) -> File | None:
    """Find a file by name; None if there is none."""
    with state.read() as connection:
        row = connection.execute(sa.select(t.file).where(t.file.c.name == name)).mappings().first()
    return None if row is None else file_from_row(row)


def get_file(state: Database, name: str) -> File:
    """Find a file by name.

    Raises:
        NotFoundError: there is none.

    """
    file = find_file(state, name)
    if file is None:
        raise NotFoundError(f"There is no file {name!r}; `tis-sync esr files` lists all files.")
    return file


def find_files(
    state: Database,
    *,
    day: date | None = None,
    deanery: str | None = None,
    file_type: FileType | None = None,
    limit: int = 100,
    after: str | None = None,
) -> list[File]:
    """Find files, newest first.

    Args:
        state: the state database.
        day: only files of this day.
        deanery: only files of this deanery.
        file_type: only files of this type.
        limit: the maximum number.
        after: only files after the one with this name.

    """
    statement = sa.select(t.file).order_by(t.file.c.created_at.desc(), t.file.c.name).limit(limit)
    for column, value in (
        (t.file.c.day, day), (t.file.c.deanery, deanery), (t.file.c.file_type, file_type),
    ):  # fmt: skip
        if value is not None:
            statement = statement.where(column == value)
    if after is not None:
        created = sa.select(t.file.c.created_at).where(t.file.c.name == after).scalar_subquery()
        same_moment = sa.and_(t.file.c.created_at == created, t.file.c.name > after)
        statement = statement.where(sa.or_(t.file.c.created_at < created, same_moment))
    with state.read() as connection:
        return [file_from_row(row) for row in connection.execute(statement).mappings()]


def file_bytes(state: Database, settings: Settings, file: File) -> bytes:
    """Render the bytes of a file from what was recorded; they are the same every time.

    Raises:
        NotFoundError: content of the file was deleted.
        UsageError: the site's own layout is invalid.
        TisSyncError: the layout has changed since the file was written.

    """
    if file.emptied_at is not None:
        raise _emptied(file)
    layout = layout_of(file.file_type, settings)
    header, trailer = _ends(file)
    data = render(layout, header, _records(state, file, layout), trailer)
    if file.sha256 is not None and _sha256(data) != file.sha256:
        raise TisSyncError(
            f"{file.name} was sent with different bytes, because the layout of {file.file_type} "
            f"files has changed since. Restore the old layout ({SETTING}), or export with --new."
        )
    return data


def read_contents(state: Database, settings: Settings, file: File) -> FileContents:
    """Read what a file contains from its stored lines; the destination is not read.

    Raises:
        NotFoundError: the content of all its lines was deleted.
        UsageError: the site's own layout is invalid.

    """
    layout = layout_of(file.file_type, settings)
    rows = _records(state, file, layout)
    has_content = rows.select(pl.any_horizontal(pl.all().is_not_null()).any()).item()
    if file.emptied_at is not None and not has_content:
        raise _emptied(file)
    # A text may contain line breaks, so a record can span several lines of the file.
    breaks = render_lines(layout.body, rows).str.count_matches(LINE_END, literal=True)
    numbers = 2 + (breaks.cast(pl.Int64) + 1).cum_sum().shift(1, fill_value=0)
    records = field_values(layout.body, rows)
    header, trailer = (
        field_values(record, pl.DataFrame([values])).row(0, named=True)
        for record, values in zip((layout.header, layout.trailer), _ends(file), strict=True)
    )
    return FileContents(header, records.select(numbers.alias("line"), *records.columns), trailer)


def _records(state: Database, file: File, layout: Layout) -> pl.DataFrame:
    """The recorded lines of a file: one text column for each column of the layout."""
    lines = sa.select(t.line.c.content).where(t.line.c.file == file.name).order_by(t.line.c.number)
    with state.read() as connection:
        texts = pl.Series("content", list(connection.scalars(lines)), pl.String)
    columns = pl.Struct({field.column: pl.String for field in layout.body.fields})
    return texts.str.json_decode(columns).struct.unnest()


def _emptied(file: File) -> NotFoundError:
    return NotFoundError(
        f"Content of {file.name} was deleted on {file.emptied_at:%Y-%m-%d}, by retention "
        "(TIS_SYNC_ESR_CONTENT_DAYS) or on request. The destination may still have the file."
    )


def _ends(file: File) -> tuple[dict[str, str], dict[str, str]]:
    """The values of the header and of the trailer, by column."""
    created = file.created_at.astimezone(LONDON)
    header = {
        "fileType": file.file_type.value,
        "fileName": file.name,
        "createdDate": created.strftime(CREATED_DATE),
        "createdTime": created.strftime(CREATED_TIME),
        "deanery": file.deanery,
    }
    trailer = {
        "fileType": file.file_type.value,
        "recordCount": str(file.records),
        "fileName": file.name,
    }
    return header, trailer


def mark_written(state: Database, file: File, data: bytes, now: datetime) -> None:
    """Record that the destination has the file; later calls change nothing."""
    with state.write() as connection:
        connection.execute(
            sa.update(t.file)
            .where(t.file.c.name == file.name, t.file.c.written_at.is_(None))
            .values(size=len(data), sha256=_sha256(data), written_at=now)
        )


def mark_reported(
    state: Database,
    file: File,
    now: datetime,
    also: Callable[[sa.Connection], None] | None = None,
) -> None:
    """Record that the export was reported to TCS: the records of the file are EXPORTED.

    Later calls change nothing.

    Args:
        state: the state database.
        file: the file.
        now: the current time.
        also: called in the same transaction (to write events for other systems).

    """
    with state.write() as connection:
        is_first = connection.execute(
            sa.update(t.file)
            .where(t.file.c.name == file.name, t.file.c.reported_at.is_(None))
            .values(reported_at=now)
        ).rowcount
        if not is_first:
            return
        claimed = sa.and_(t.record.c.file == file.name, t.record.c.state == RecordState.TO_EXPORT)
        changes = sa.select(
            t.record.c.id,
            sa.literal(now, t.change.c.at.type),
            sa.literal(RecordState.EXPORTED.value),
            sa.literal(f"in {file.name}"),
            sa.literal(file.command_id),
        ).where(claimed)
        columns = ["record_id", "at", "state", "reason", "cause"]
        connection.execute(sa.insert(t.change).from_select(columns, changes))
        connection.execute(
            sa.update(t.record)
            .where(claimed)
            .values(state=RecordState.EXPORTED, reason=None, cause=file.command_id, changed_at=now)
        )
        if also is not None:
            also(connection)


def exported_records(state: Database, file: File) -> pl.DataFrame:
    """The records of a file: placement_id, position_id, position_number."""
    columns = (t.record.c.placement_id, t.record.c.position_id, t.record.c.position_number)
    statement = sa.select(*columns).where(t.record.c.file == file.name).order_by(t.record.c.id)
    with state.read() as connection:
        rows = [tuple(row) for row in connection.execute(statement)]
    names = [column.name for column in columns]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Int64()), orient="row")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
