"""Numbered files: which records go into which file, decided once, in one transaction.

Claiming a deanery's records, taking the number and recording the file with its lines are one
transaction of the state database. It begins by locking the counter's row, so claims of a file type
come one after another, a number is taken only together with its file, and none is left unused. The
bytes are rendered from what was recorded: a repeat gives the same.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.esr import counter
from tis_sync.esr.deaneries import APP, LONDON
from tis_sync.esr.layout import Layout
from tis_sync.esr.lines import CREATED_DATE, CREATED_TIME, render
from tis_sync.esr.plan import EXPORTED, TO_EXPORT
from tis_sync.state import esr as t
from tis_sync.tcs.write import KEYS_A_STATEMENT

RECORDS_A_POST = 40  # with more for one post in one file, ESR quarantines the whole file


@dataclass(frozen=True)
class File:
    """A file that was recorded. `size` and `sha256` (of its bytes) are None until it is written."""

    name: str
    file_type: str
    deanery: str
    day: date
    turn: int
    number: int
    created_at: datetime
    command_id: str
    records: int
    size: int | None
    sha256: str | None
    written_at: datetime | None
    told_at: datetime | None


def file_name(deanery: str, file_type: str, day: date, number: int) -> str:
    """`DE_<deanery>_<type>_<YYYYMMDD>_<8-digit number>.DAT`."""
    return f"DE_{deanery}_{file_type}_{day:%Y%m%d}_{number:08d}.DAT"


def claim(
    state: sa.Engine,
    *,
    command_id: str,
    file_type: str,
    deanery: str,
    day: date,
    now: datetime,
    new: bool,
    made_before: datetime | None = None,
    first_number: int = 0,
    rows: pl.DataFrame | None = None,
) -> File:
    """Give a command its file; the same one however often it is asked.

    Args:
        state: our state.
        command_id: the command; it has one file, ever.
        file_type: APP, DNC or DNF.
        deanery: whose.
        day: the day that the file is named for.
        now: the present moment.
        new: take a new number also where the day has a file; else that file is the answer.
        made_before: a file of the day that is older than this does not count when there is
            something unsent (it was made by hand before the export was due).
        first_number: the last number that an exporter before us took.
        rows: what a notification file holds: `source`, `claim` and `content`, in order. Claims
            that another file holds are left out. An APP file holds the records TO_EXPORT.

    """
    with state.execution_options(writes=True).begin() as connection:
        taken = max(first_number, counter.lock(connection, file_type))
        found = _file(connection, t.file.c.command_id == command_id)
        if found is not None:
            return found
        if rows is not None:
            rows = _unclaimed(connection, rows)
        of_day = sa.and_(
            t.file.c.file_type == file_type, t.file.c.deanery == deanery, t.file.c.day == day
        )
        last = _file(connection, of_day)
        if last is not None and not new:
            early = made_before is not None and last.created_at < made_before
            if not (early and _unsent(connection, deanery, rows)):
                return last
        values: dict[str, Any] = {
            "name": file_name(deanery, file_type, day, taken + 1),
            "file_type": file_type,
            "deanery": deanery,
            "day": day,
            "turn": 0 if last is None else last.turn + 1,
            "number": taken + 1,
            "created_at": now,
            "command_id": command_id,
        }
        if rows is None:
            records = _claim_records(connection, values["name"], deanery, now)
        else:
            records = _claim_rows(connection, values["name"], rows)
        connection.execute(sa.insert(t.file).values(values | {"records": records}))
        connection.execute(
            sa.update(t.counter)
            .where(t.counter.c.file_type == file_type)
            .values(last_number=taken + 1)
        )
        made = _file(connection, t.file.c.name == values["name"])
        assert made is not None
        return made


def _file(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> File | None:
    newest = sa.select(t.file).where(condition).order_by(t.file.c.turn.desc()).limit(1)
    row = connection.execute(newest).mappings().first()
    return None if row is None else File(**row)


def _ready(deanery: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        t.record.c.state == TO_EXPORT, t.record.c.deanery == deanery, t.record.c.file.is_(None)
    )


def _unsent(connection: sa.Connection, deanery: str, rows: pl.DataFrame | None) -> bool:
    if rows is not None:
        return not rows.is_empty()
    return connection.scalar(sa.select(t.record.c.id).where(_ready(deanery)).limit(1)) is not None


def _claim_records(connection: sa.Connection, name: str, deanery: str, now: datetime) -> int:
    """Claim the deanery's records, those that start first in front; hold what is too much."""
    # All, and then the surplus back: a claim by a ranked subquery would be planned as a loop in a
    # loop by a PostgreSQL that has not yet counted the table's rows.
    claimed = sa.update(t.record).where(_ready(deanery))
    connection.execute(claimed.values(file=name, held=None, changed_at=now))
    mine = t.record.c.file == name
    place = sa.func.row_number().over(
        partition_by=t.record.c.post_id, order_by=(t.record.c.start, t.record.c.id)
    )
    ranked = sa.select(t.record.c.id, place.label("place")).where(mine).subquery()
    surplus = sa.select(ranked.c.id).where(ranked.c.place > RECORDS_A_POST)
    ids = pl.Series(list(connection.scalars(surplus)), dtype=pl.String)
    why = (
        f"more than {RECORDS_A_POST} records for one post: ESR would quarantine the whole file "
        f"{name}; this one goes with the next"
    )
    for part in ids.to_frame().iter_slices(KEYS_A_STATEMENT):
        held = sa.update(t.record).where(t.record.c.id.in_(part.to_series().to_list()))
        connection.execute(held.values(file=None, held=why))
    number = sa.func.row_number().over(order_by=(t.record.c.start, t.record.c.id))
    lines = sa.select(
        sa.literal(name),
        number,
        t.record.c.id,
        sa.literal(f"{APP}/").concat(t.record.c.id),
        t.record.c.content,
    ).where(mine)
    columns = ["file", "number", "source", "claim", "content"]
    connection.execute(sa.insert(t.line).from_select(columns, lines))
    counted = sa.select(sa.func.count()).select_from(t.line).where(t.line.c.file == name)
    return int(connection.execute(counted).scalar_one())


def _unclaimed(connection: sa.Connection, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose claim no file holds."""
    held: list[str] = []
    for part in rows.filter(pl.col("claim").is_not_null()).iter_slices(KEYS_A_STATEMENT):
        among = t.line.c.claim.in_(part["claim"].to_list())
        held += connection.scalars(sa.select(t.line.c.claim).where(among))
    return rows.filter(~pl.col("claim").is_in(held).fill_null(value=False))


def _claim_rows(connection: sa.Connection, name: str, rows: pl.DataFrame) -> int:
    if rows.is_empty():
        return 0
    numbered = rows.with_row_index("number", 1).with_columns(file=pl.lit(name))
    connection.execute(sa.insert(t.line), numbered.to_dicts())
    return rows.height


def content(state: sa.Engine, file: File, layout: Layout) -> bytes:
    """The bytes of a file, from what was recorded; the same every time."""
    lines = sa.select(t.line.c.content).where(t.line.c.file == file.name).order_by(t.line.c.number)
    with state.connect() as connection:
        texts = pl.Series("content", list(connection.scalars(lines)), pl.String)
    fields = pl.Struct({field.source: pl.String for field in layout.body.fields})
    body = texts.str.json_decode(fields).struct.unnest()
    made = file.created_at.astimezone(LONDON)
    return render(
        layout,
        {
            "fileType": file.file_type,
            "fileName": file.name,
            "createdDate": made.strftime(CREATED_DATE),
            "createdTime": made.strftime(CREATED_TIME),
            "deanery": file.deanery,
        },
        body,
        {"fileType": file.file_type, "recordCount": str(file.records), "fileName": file.name},
    )


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def written(state: sa.Engine, file: File, data: bytes, now: datetime) -> None:
    """Record that the file lies at its destination; the first time counts."""
    with state.execution_options(writes=True).begin() as connection:
        connection.execute(
            sa.update(t.file)
            .where(t.file.c.name == file.name, t.file.c.written_at.is_(None))
            .values(size=len(data), sha256=sha256(data), written_at=now)
        )


def settle(
    state: sa.Engine,
    file: File,
    now: datetime,
    then: Callable[[sa.Connection], None] | None = None,
) -> None:
    """TCS has been told (or need not be): the records are EXPORTED. May be called again.

    Args:
        state: our state.
        file: the file.
        now: the present moment.
        then: what else belongs to the transaction (events for others).

    """
    with state.execution_options(writes=True).begin() as connection:
        first = connection.execute(
            sa.update(t.file)
            .where(t.file.c.name == file.name, t.file.c.told_at.is_(None))
            .values(told_at=now)
        ).rowcount
        if not first:
            return
        mine = sa.and_(t.record.c.file == file.name, t.record.c.state == TO_EXPORT)
        moved = sa.select(
            t.record.c.id,
            sa.literal(now, t.change.c.at.type),
            sa.literal(EXPORTED),
            sa.literal(f"in {file.name}"),
            sa.literal(file.command_id),
        ).where(mine)
        columns = ["record_id", "at", "state", "reason", "cause"]
        connection.execute(sa.insert(t.change).from_select(columns, moved))
        connection.execute(
            sa.update(t.record)
            .where(mine)
            .values(state=EXPORTED, reason=None, cause=file.command_id, changed_at=now)
        )
        if then is not None:
            then(connection)


def exported_records(state: sa.Engine, file: File) -> pl.DataFrame:
    """The records of a file: placement_id, position_id, position_number."""
    columns = (t.record.c.placement_id, t.record.c.position_id, t.record.c.position_number)
    statement = sa.select(*columns).where(t.record.c.file == file.name).order_by(t.record.c.id)
    with state.connect() as connection:
        rows = [tuple(row) for row in connection.execute(statement)]
    names = [column.name for column in columns]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Int64()), orient="row")


def files(
    state: sa.Engine,
    day: date | None = None,
    deanery: str | None = None,
    file_type: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> list[File]:
    """Files that were recorded, newest first; only those behind the file `after`, where given."""
    statement = sa.select(t.file).order_by(t.file.c.created_at.desc(), t.file.c.name).limit(limit)
    for column, value in (
        (t.file.c.day, day), (t.file.c.deanery, deanery), (t.file.c.file_type, file_type),
    ):  # fmt: skip
        if value is not None:
            statement = statement.where(column == value)
    if after is not None:
        made = sa.select(t.file.c.created_at).where(t.file.c.name == after).scalar_subquery()
        at_once = sa.and_(t.file.c.created_at == made, t.file.c.name > after)
        statement = statement.where(sa.or_(t.file.c.created_at < made, at_once))
    with state.connect() as connection:
        return [File(**row) for row in connection.execute(statement).mappings()]


def file_named(state: sa.Engine, name: str) -> File | None:
    """The file of that name."""
    with state.connect() as connection:
        return _file(connection, t.file.c.name == name)
