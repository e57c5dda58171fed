"""Selection: which rows of TCS's table EsrNotification a file must contain."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import KEYS_PER_STATEMENT
from tis_sync.db.database import Database
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import NOTIFICATION_COLUMNS
from tis_sync.esr.files.flat_file import has_control
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.columns import comparable
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Source

VPD_DIGITS = 3  # a VPD code is text: "096", never "96"
TABLE = tcs.EsrNotification


@dataclass(frozen=True)
class Selection:
    """The notifications of a deanery that are to be sent.

    Attributes:
        rows: a frame: subject (the id of the row), claim ("DNC/id", or null if it may be sent
            again), content (JSON).
        left_out: the rows that cannot be sent, each with the reason, without its values.

    """

    rows: pl.DataFrame
    left_out: list[str]


def select_notifications(
    state: Database,
    source: Database,
    deanery: str,
    prefixes: Mapping[str, str],
    since: date | None,
    day: date,
    *,
    full: bool,
) -> Selection:
    """Select the notifications of a deanery to be sent, oldest first.

    Notifications of any day are selected, so nothing is lost if a day is missed.

    Args:
        state: the state database, which knows what was sent.
        source: TCS.
        deanery: the code of the deanery.
        prefixes: as for `tis_sync.esr.applicants.eligibility.positions`.
        since: the previous exporter sent the notifications of earlier days. None: it sent none.
        day: today's date (Europe/London).
        full: all of them (DNF), not only those that no file contains yet (DNC).

    """
    codes = [deanery, *(code for code, target in prefixes.items() if target == deanery)]
    condition: sa.ColumnElement[bool] = comparable(TABLE.c.managingDeaneryBodyCode).in_(codes)
    if since is not None:
        # Not ">=": SQLite compares text, with or without fractions of a second.
        before = datetime.combine(since, time()) - timedelta(seconds=1)
        condition = sa.and_(condition, TABLE.c.createdDate > before)
    reader = Source(source, day)
    ids = _load(reader, ("id",), condition)["id"]
    if not full:
        ids = _unsent(state, ids)
    columns = ("id", *NOTIFICATION_COLUMNS)
    parts = [
        _load(reader, columns, TABLE.c.id.in_(part.to_series().to_list()))
        for part in ids.sort().to_frame().iter_slices(KEYS_PER_STATEMENT)
    ]
    if not parts:
        none = pl.DataFrame(schema=dict.fromkeys(("subject", "claim", "content"), pl.String()))
        return Selection(none, [])
    claim = pl.lit(None, pl.String) if full else pl.format(f"{FileType.DNC}/{{}}", "id")
    rows = (
        pl.concat(parts)
        .sort("createdDate", "id", nulls_last=False)
        .with_columns(_texts())
        .with_columns(reason=_reason())
    )
    unfit = rows.filter(pl.col("reason").is_not_null()).select("id", "reason")
    fit = rows.filter(pl.col("reason").is_null()).select(
        subject=pl.col("id").cast(pl.String),
        claim=claim,
        content=pl.struct(NOTIFICATION_COLUMNS).struct.json_encode(),
    )
    return Selection(fit, [f"{TABLE.name} {key}: {reason}" for key, reason in unfit.rows()])


def notification_read() -> Read:
    """What is read from TCS, apart from the condition."""
    key = ("id", "managingDeaneryBodyCode", "createdDate")
    return Read(TABLE, tuple(dict.fromkeys((*key, *NOTIFICATION_COLUMNS))))


def _load(
    reader: Source, columns: tuple[str, ...], condition: sa.ColumnElement[bool]
) -> pl.DataFrame:
    read = Read(TABLE, columns, where=always(condition))
    return reader.load([read], ALL_KEYS).frames[TABLE.name]


def _unsent(state: Database, ids: pl.Series) -> pl.Series:
    """The ids that no DNC file contains."""
    sent: list[int] = []
    with state.read() as connection:
        for part in ids.to_frame().iter_slices(KEYS_PER_STATEMENT):
            claims = [f"{FileType.DNC}/{key}" for key in part.to_series()]
            among = sa.select(t.line.c.subject).where(t.line.c.claim.in_(claims))
            sent += [int(subject) for subject in connection.scalars(among)]
    return ids.filter(~ids.is_in(sent))


def _reason() -> pl.Expr:
    """Why a notification cannot be sent; null if it can."""
    named = [
        pl.when(has_control(pl.col(name))).then(pl.lit(f"{name} contains a control character"))
        for name in NOTIFICATION_COLUMNS
    ]
    reasons = pl.concat_list(named).list.drop_nulls()
    return pl.when(reasons.list.len() > 0).then(reasons.list.join("; "))


def _texts() -> Iterator[pl.Expr]:
    """The layout's columns as text: dates YYYYMMDD, VPD codes padded, whitespace as null."""
    for name in NOTIFICATION_COLUMNS:
        if isinstance(TABLE.c[name].type, (sa.Date, sa.DateTime)):
            value = pl.col(name).dt.strftime("%Y%m%d")
        else:
            value = pl.col(name).str.strip_chars().replace("", None)
        if "Vpd" in name:
            value = value.str.zfill(VPD_DIGITS)
        yield value.alias(name)
