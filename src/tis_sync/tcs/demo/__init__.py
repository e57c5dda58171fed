"""Synthetic TCS data, of any size, seeded, made in whole columns and loaded in bulk.

Trusts, sites, grades and local offices are real; every person is made up. The shapes that jobs
have to cope with are all there: people without placements, with two current ones, without contact
details or GMC number, missing dates and owners, non-ASCII and four-byte characters, drafts, posts
with one trust as both bodies, what the old service left (duplicates, gaps, surplus), and statuses
that are wrong today.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from tis_sync.errors import TisSyncError, UsageError
from tis_sync.tcs import tables as t
from tis_sync.tcs.connect import explained, shown
from tis_sync.tcs.demo.draw import Draw, Size, numbered, reference
from tis_sync.tcs.demo.esr import make_esr
from tis_sync.tcs.demo.names import SPECIALTIES
from tis_sync.tcs.demo.people import make_memberships, make_people
from tis_sync.tcs.demo.posts import make_placements, make_posts
from tis_sync.tcs.write import insert, writing

__all__ = ["Size", "create_tables", "generate", "load", "people_in"]
PROGRAMMES_AN_OFFICE = 40


def create_tables(engine: sa.Engine) -> None:
    """Create the tables of TCS where they are missing: for a synthetic database only."""
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"), writing(engine) as connection:
        t.metadata.create_all(connection)


def people_in(engine: sa.Engine) -> int:
    """How many persons a database holds; 0 also where it has no tables yet."""
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"):
        if not sa.inspect(engine).has_table(t.Person.name):
            return 0
        with engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(t.Person)) or 0


Derive = Callable[[Mapping[str, pl.DataFrame], date, int], dict[str, pl.DataFrame]]


def generate(
    engine: sa.Engine, size: Size, today: date, derive: Derive | None = None
) -> dict[str, int]:
    """Fill an empty database with synthetic data.

    Args:
        engine: where to; the tables are created.
        size: how many people; the same size, seed and day give the same data.
        today: the day around which placements and memberships lie.
        derive: makes further tables from those generated, the day and the seed: the derived
            tables as the old service left them (`tis_sync.jobs.leftovers`). None: they stay empty.

    Returns:
        How many rows each table got.

    Raises:
        UsageError: the database holds people already.

    """
    create_tables(engine)
    found = people_in(engine)
    if found:
        raise UsageError(
            f"TCS at {shown(engine.url)} holds {found:,} people already; "
            "synthetic data goes only into an empty database."
        )
    frames: dict[str, pl.DataFrame] = {}
    for table, frame in _frames(size, today):
        frames[table.name] = frame
    frames |= {table.name: frame for table, frame in make_esr(size, today, frames)}
    if derive is not None:
        frames |= derive(frames, today, size.seed)
    for name, frame in frames.items():
        load(engine, t.metadata.tables[name], frame)
    return {name: frame.height for name, frame in frames.items()}


def load(engine: sa.Engine, table: sa.Table, frame: pl.DataFrame) -> None:
    """Load a frame into an empty table: LOAD DATA where the server allows it, else inserts."""
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"), writing(engine) as connection:
        if engine.dialect.name in {"mysql", "mariadb"}:
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
        raise TisSyncError(f"{table.name}: {result.rowcount} of {frame.height} rows were loaded.")


def _frames(size: Size, today: date) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Every table of section "the core": people, programmes, posts, placements."""
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
    programmes = PROGRAMMES_AN_OFFICE * offices.height
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
