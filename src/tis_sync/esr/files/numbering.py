"""Numbered files: which records go into which file, decided once, in one transaction.

One transaction of the state database claims a deanery's records, takes the number, and records the
file with its lines. It begins by locking the counter's row, so claims for a file type happen one
after another, a number is only taken together with its file, and no number is skipped. The bytes
are rendered from what was recorded, so they are the same every time.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import KEYS_PER_STATEMENT
from tis_sync.db.database import Database
from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.records import RecordState
from tis_sync.state import esr_tables as t

# ESR quarantines a whole file if it contains more records than this for one post.
RECORDS_PER_POST = 40


@dataclass(frozen=True)
class File:
    """A recorded file.

    Attributes:
        name: see `file_name`.
        file_type: its type.
        deanery: the code of the deanery.
        day: the day that the file is for, Europe/London.
        revision: 0 for the first file of a deanery's day, 1 for the next one, and so on.
        number: unique among the files of its type.
        created_at: UTC.
        command_id: the command that it was made for.
        records: the number of records in it.
        size, sha256: the size and hash of its bytes; None until it is written.
        written_at: when it was verified at the destination, UTC.
        reported_at: when its export was reported to TCS, UTC.
        emptied_at: when the content of some or all of its lines was deleted, UTC.

    """

    name: str
    file_type: FileType
    deanery: str
    day: date
    revision: int
    number: int
    created_at: datetime
    command_id: str
    records: int
    size: int | None
    sha256: str | None
    written_at: datetime | None
    reported_at: datetime | None
    emptied_at: datetime | None = None


def file_name(deanery: str, file_type: FileType, day: date, number: int) -> str:
    """`DE_<deanery>_<type>_<YYYYMMDD>_<8-digit number>.DAT`."""
    return f"DE_{deanery}_{file_type}_{day:%Y%m%d}_{number:08d}.DAT"


def file_from_row(row: sa.RowMapping) -> File:
    """Convert a row of the table `esr_file`."""
    return File(**{**row, "file_type": FileType(row["file_type"])})


def count_ready(state: Database, deanery: str) -> int:
    """Count the records of a deanery that the next APP file would contain."""
    # Records without a post count as records of one post, as in the claim.
    by_post = sa.select(sa.func.count().label("number")).where(_ready(deanery))
    number = by_post.group_by(t.record.c.post_id).subquery().c.number
    limited = sa.case((number > RECORDS_PER_POST, RECORDS_PER_POST), else_=number)
    with state.read() as connection:
        return int(connection.scalar(sa.select(sa.func.sum(limited))) or 0)


def lock_counter(connection: sa.Connection, file_type: FileType) -> int:
    """Lock the counter of a file type until the transaction ends.

    Everything that adds or changes records locks the APP counter, so one transaction at a time
    writes records, and transactions cannot deadlock. SQLite needs no lock, because its write
    transactions exclude each other.

    Returns:
        The last number taken.

    """
    locking = sa.select(t.counter.c.last_number).where(t.counter.c.file_type == file_type)
    return int(connection.execute(locking.with_for_update()).scalar_one())


def claim(
    state: Database,
    *,
    command_id: str,
    file_type: FileType,
    deanery: str,
    day: date,
    now: datetime,
    new: bool,
    made_before: datetime | None = None,
    last_number: int = 0,
    rows: pl.DataFrame | None = None,
    oldest: date | None = None,
) -> File:
    """Decide the file of a command; a repeated call returns the same file.

    Args:
        state: the state database.
        command_id: the command; it never has a second file.
        file_type: the type of the file.
        deanery: the code of the deanery.
        day: the day in the name of the file.
        now: the current time.
        new: take a new number even if the day already has a file. Otherwise that file is returned.
        made_before: if something is unsent, ignore a file of the day that is older than this,
            because it was made on request before the export was due.
        last_number: the last number that the previous exporter took.
        rows: the content of a notification file: `subject`, `claim` and `content`, in order. Rows
            that another file has claimed are left out. None: the deanery's TO_EXPORT records.
        oldest: no file is made for an earlier day; the one that exists is returned. None: for any
            day.

    Raises:
        UsageError: the day is earlier than `oldest`, and a new file would be needed.

    """
    with state.write() as connection:
        taken = max(last_number, lock_counter(connection, file_type))
        existing = _newest_file(connection, t.file.c.command_id == command_id)
        if existing is not None:
            return existing
        if rows is not None:
            rows = _unclaimed(connection, rows)
        of_day = sa.and_(
            t.file.c.file_type == file_type, t.file.c.deanery == deanery, t.file.c.day == day
        )
        last = _newest_file(connection, of_day)
        if last is not None and not new:
            early = made_before is not None and last.created_at < made_before
            if not (early and _has_unsent(connection, deanery, rows)):
                return last
        if oldest is not None and day < oldest:
            raise UsageError(
                f"{day} is too long ago for a new file; the oldest day is {oldest}. Send what is "
                f"unsent in today's file: `tis-sync esr export {deanery} --type "
                f"{file_type.option} --new`."
            )
        values: dict[str, Any] = {
            "name": file_name(deanery, file_type, day, taken + 1),
            "file_type": file_type,
            "deanery": deanery,
            "day": day,
            "revision": 0 if last is None else last.revision + 1,
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
        claimed = _newest_file(connection, t.file.c.name == values["name"])
        assert claimed is not None
        return claimed


def _newest_file(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> File | None:
    newest = sa.select(t.file).where(condition).order_by(t.file.c.revision.desc()).limit(1)
    row = connection.execute(newest).mappings().first()
    return None if row is None else file_from_row(row)


def _ready(deanery: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        t.record.c.state == RecordState.TO_EXPORT,
        t.record.c.deanery == deanery,
        t.record.c.file.is_(None),
    )


def _has_unsent(connection: sa.Connection, deanery: str, rows: pl.DataFrame | None) -> bool:
    if rows is not None:
        return not rows.is_empty()
    return connection.scalar(sa.select(t.record.c.id).where(_ready(deanery)).limit(1)) is not None


def _claim_records(connection: sa.Connection, name: str, deanery: str, now: datetime) -> int:
    """Claim the deanery's records, earliest start date first, and postpone the surplus."""
    # Claim all of them, then give back the surplus. PostgreSQL would plan a claim by a ranked
    # subquery as nested loops until it has statistics of the table.
    everything = sa.update(t.record).where(_ready(deanery))
    connection.execute(everything.values(file=name, postponed=None, changed_at=now))
    claimed = t.record.c.file == name
    place = sa.func.row_number().over(
        partition_by=t.record.c.post_id, order_by=(t.record.c.start, t.record.c.id)
    )
    ranked = sa.select(t.record.c.id, place.label("place")).where(claimed).subquery()
    surplus = sa.select(ranked.c.id).where(ranked.c.place > RECORDS_PER_POST)
    ids = pl.Series(list(connection.scalars(surplus)), dtype=pl.String)
    reason = (
        f"one file can contain {RECORDS_PER_POST} records for a post; {name} has that many, so "
        "this record goes into the next file"
    )
    for part in ids.to_frame().iter_slices(KEYS_PER_STATEMENT):
        postponed = sa.update(t.record).where(t.record.c.id.in_(part.to_series().to_list()))
        connection.execute(postponed.values(file=None, postponed=reason))
    number = sa.func.row_number().over(order_by=(t.record.c.start, t.record.c.id))
    lines = sa.select(
        sa.literal(name),
        number,
        t.record.c.id,
        sa.literal(f"{FileType.APP}/").concat(t.record.c.id),
        t.record.c.content,
    ).where(claimed)
    columns = ["file", "number", "subject", "claim", "content"]
    connection.execute(sa.insert(t.line).from_select(columns, lines))
    counted = sa.select(sa.func.count()).select_from(t.line).where(t.line.c.file == name)
    return int(connection.execute(counted).scalar_one())


def _unclaimed(connection: sa.Connection, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose claim belongs to no file yet."""
    claims: list[str] = []
    for part in rows.filter(pl.col("claim").is_not_null()).iter_slices(KEYS_PER_STATEMENT):
        among = t.line.c.claim.in_(part["claim"].to_list())
        claims += connection.scalars(sa.select(t.line.c.claim).where(among))
    return rows.filter(~pl.col("claim").is_in(claims).fill_null(value=False))


def _claim_rows(connection: sa.Connection, name: str, rows: pl.DataFrame) -> int:
    if rows.is_empty():
        return 0
    numbered = rows.with_row_index("number", 1).with_columns(file=pl.lit(name))
    connection.execute(sa.insert(t.line), numbered.to_dicts())
    return rows.height
