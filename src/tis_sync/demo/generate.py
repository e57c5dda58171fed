"""Synthetic TCS data of any size: generated in whole columns and loaded in bulk.

Trusts, sites, grades and local offices are real; every person is fictitious. The data contains
every difficulty that jobs encounter: people without placements, with two current ones, or without
contact details or a GMC number; missing dates and owners; non-ASCII and four-byte characters;
drafts; posts with the same trust as both bodies; and statuses that are wrong today.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import insert
from tis_sync.db.database import Database
from tis_sync.demo.draw import Draw, Size, numbered, reference
from tis_sync.demo.esr import make_esr
from tis_sync.demo.names import SPECIALTIES
from tis_sync.demo.people import make_memberships, make_people
from tis_sync.demo.posts import make_placements, make_posts
from tis_sync.errors import TisSyncError, UsageError
from tis_sync.tcs import tables as t

__all__ = ["Size", "create_tables", "generate", "load", "people_in"]
PROGRAMMES_PER_OFFICE = 40


def create_tables(database: Database) -> None:
    """Create the missing tables of TCS. Only call this on a synthetic database."""
    with database.write() as connection:
        t.metadata.create_all(connection)


def people_in(database: Database) -> int:
    """The number of persons in a database; 0 if it has no tables yet."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table(t.Person.name):
            return 0
        return connection.scalar(sa.select(sa.func.count()).select_from(t.Person)) or 0


Derive = Callable[[Mapping[str, pl.DataFrame], date, int], dict[str, pl.DataFrame]]


def generate(
    database: Database, size: Size, today: date, derive: Derive | None = None
) -> dict[str, int]:
    """Fill an empty database with synthetic data.

    Args:
        database: the database; missing tables are created.
        size: the size and the seed; the same size, seed and day give the same data.
        today: the day around which placements and memberships are spread.
        derive: computes the derived tables from the generated ones, the day and the seed (see
            `tis_sync.demo.legacy_state`). None: the derived tables stay empty.

    Returns:
        The number of rows loaded into each table.

    Raises:
        UsageError: the database already contains people.

    """
    create_tables(database)
    people = people_in(database)
    if people:
        raise UsageError(
            f"TCS at {database.address} already contains {people:,} people; "
            "synthetic data is only written into an empty database."
        )
    frames: dict[str, pl.DataFrame] = {}
    for table, frame in _frames(size, today):
        frames[table.name] = frame
    frames |= {table.name: frame for table, frame in make_esr(size, today, frames)}
    if derive is not None:
        frames |= derive(frames, today, size.seed)
    for name, frame in frames.items():
        load(database, t.metadata.tables[name], frame)
    return {name: frame.height for name, frame in frames.items()}


def load(database: Database, table: sa.Table, frame: pl.DataFrame) -> None:
    """Load a frame into an empty table, with LOAD DATA if the server allows it, else INSERT."""
    with database.with_local_files() as accepting, accepting.write() as connection:
        if database.dialect in {"mysql", "mariadb"}:
            allowed = connection.exec_driver_sql("SELECT @@local_infile").scalar()
            if allowed:
                _load_file(connection, table, frame)
                return
        insert(connection, table, frame)


def _load_file(connection: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    quote = connection.dialect.identifier_preparer.quote
    bits = [name for name in frame.columns if frame.schema[name] == pl.Boolean]
    names = ", ".join(f"@{n}" if n in bits else quote(n) for n in frame.columns)
    sets = ", ".join(f"{quote(n)} = CAST(@{n} AS UNSIGNED)" for n in bits)
    connection.exec_driver_sql("SET unique_checks=0, foreign_key_checks=0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame.with_columns(pl.col(pl.Boolean).cast(pl.Int8)).write_csv(
            path,
            include_header=False,
            null_value="NULL",
            quote_style="non_numeric",
            datetime_format="%Y-%m-%d %H:%M:%S",
        )
        result = connection.exec_driver_sql(
            f"LOAD DATA LOCAL INFILE %s INTO TABLE {quote(table.name)} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' "
            f"LINES TERMINATED BY '\\n' ({names})" + (f" SET {sets}" if sets else ""),
            (str(path),),
        )
    if result.rowcount != frame.height:
        raise TisSyncError(
            f"Only {result.rowcount:,} of {frame.height:,} rows were loaded into {table.name}."
        )


def _frames(size: Size, today: date) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """The core tables: people, programmes, posts and placements."""
    draw = Draw(size.seed)
    yield from make_people(size, today, draw)
    offices = reference("local_offices")
    specialties = pl.DataFrame({"name": SPECIALTIES}).with_row_index("id", 1)
    yield (
        t.Specialty,
        specialties.select(
            pl.col("id").cast(pl.Int64),
            "name",
            status=pl.lit("CURRENT"),
            specialtyCode=pl.format("{}", (pl.col("id") + 100)),
        ),
    )
    programmes = PROGRAMMES_PER_OFFICE * offices.height
    yield (
        t.Programme,
        numbered(programmes).select(
            "id",
            status=pl.lit("CURRENT"),
            owner=pl.when(draw.one_in(50)).then(None).otherwise(draw.pick(offices["name"])),
            programmeName=pl.concat_str(
                draw.pick(pl.Series(SPECIALTIES)), pl.lit(" programme "), pl.col("id")
            ),
            programmeNumber=pl.format("PRG{}", pl.col("id") + 1000),
        ),
    )
    yield from make_memberships(size, today, draw, programmes)
    yield from make_posts(size, today, draw, offices, programmes)
    yield from make_placements(size, today, draw)
