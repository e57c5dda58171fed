"""Notifications: the rows of TCS's table EsrNotification that a file has to hold."""

from datetime import date, datetime, time, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.esr.deaneries import DNC
from tis_sync.esr.sources import NOTIFICATION_SOURCES
from tis_sync.state import esr as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.read import KeyRange, Read, just
from tis_sync.tcs.source import Source
from tis_sync.tcs.write import KEYS_A_STATEMENT

VPD_DIGITS = 3  # VPD codes are texts: "096", never "96"
TABLE = tcs.EsrNotification


def of_deanery(
    state: sa.Engine,
    source: sa.Engine,
    deanery: str,
    prefixes: dict[str, str],
    since: date | None,
    day: date,
    *,
    full: bool,
) -> pl.DataFrame:
    """The notifications of a deanery that are to be sent, oldest first.

    Whatever day they were made: a missed day loses nothing.

    Args:
        state: our state: which were sent.
        source: TCS.
        deanery: whose.
        prefixes: which deanery the first part of a post number means, where not that of its name.
        since: those made before were sent by the exporter before us.
        day: the present day.
        full: all of them (DNF); else those that no file holds yet (DNC).

    Returns:
        source (the row's id), claim ("DNC/id", or null where it may be sent again), content (JSON).

    """
    codes = [deanery, *(code for code, meant in prefixes.items() if meant == deanery)]
    mine: sa.ColumnElement[bool] = TABLE.c.managingDeaneryBodyCode.in_(codes)
    if since is not None:
        # Not ">=": SQLite compares texts, with or without fractions of a second.
        before = datetime.combine(since, time()) - timedelta(seconds=1)
        mine = sa.and_(mine, TABLE.c.createdDate > before)
    reader = Source(source, day)
    ids = _load(reader, ("id",), mine)["id"]
    if not full:
        ids = _unsent(state, ids)
    columns = ("id", *NOTIFICATION_SOURCES)
    parts = [
        _load(reader, columns, TABLE.c.id.in_(part.to_series().to_list()))
        for part in ids.sort().to_frame().iter_slices(KEYS_A_STATEMENT)
    ]
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys(("source", "claim", "content"), pl.String()))
    claim = pl.lit(None, pl.String) if full else pl.format(f"{DNC}/{{}}", "id")
    return (
        pl.concat(parts)
        .sort("createdDate", "id", nulls_last=False)
        .select(
            source=pl.col("id").cast(pl.String),
            claim=claim,
            content=pl.struct(_texts()).struct.json_encode(),
        )
    )


def _load(reader: Source, columns: tuple[str, ...], which: sa.ColumnElement[bool]) -> pl.DataFrame:
    read = Read(TABLE, columns, where=just(which))
    return reader.load([read], KeyRange()).frames[TABLE.name]


def _unsent(state: sa.Engine, ids: pl.Series) -> pl.Series:
    """Those of the ids that no DNC file holds."""
    sent: list[int] = []
    with state.connect() as connection:
        for part in ids.to_frame().iter_slices(KEYS_A_STATEMENT):
            claims = [f"{DNC}/{key}" for key in part.to_series()]
            among = sa.select(t.line.c.source).where(t.line.c.claim.in_(claims))
            sent += [int(found) for found in connection.scalars(among)]
    return ids.filter(~ids.is_in(sent))


def _texts() -> list[pl.Expr]:
    """The sources of the layout as texts: dates YYYYMMDD, VPD codes padded, blanks as nothing."""
    made = []
    for name in NOTIFICATION_SOURCES:
        kind = TABLE.c[name].type
        if isinstance(kind, (sa.Date, sa.DateTime)):
            value = pl.col(name).dt.strftime("%Y%m%d")
        else:
            value = pl.col(name).str.strip_chars().replace("", None)
        if "Vpd" in name:
            value = value.str.zfill(VPD_DIGITS)
        made.append(value.alias(name))
    return made
