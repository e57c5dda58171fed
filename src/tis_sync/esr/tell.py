"""Tell TCS what was exported: one PlacementEsrEvent a record of a file, exactly once.

TCS knows no key that would forbid a second one, so a named lock keeps tellers of one file apart,
and what is there already is not told again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa

from tis_sync.errors import UnreachableError
from tis_sync.esr.files import File
from tis_sync.esr.plan import EXPORTED
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import explained, shown
from tis_sync.tcs.write import insert, writing

LOCK_SECONDS = 30
EVENT = tcs.PlacementEsrEvent
KEY = ("placementId", "positionId", "positionNumber")


def tell(source: sa.Engine, file: File, records: pl.DataFrame, now: datetime) -> int:
    """Write the events of a file that TCS does not have yet; returns how many.

    Args:
        source: TCS.
        file: the file.
        records: placement_id, position_id, position_number.
        now: the present moment: what users see as the time of the export.

    Raises:
        UnreachableError: TCS does not answer, or another process is telling it of this file.

    """
    if records.is_empty():
        return 0
    wanted = records.rename(
        {
            "placement_id": "placementId",
            "position_id": "positionId",
            "position_number": "positionNumber",
        }
    )
    already = sa.select(*(EVENT.c[name] for name in KEY)).where(EVENT.c.filename == file.name)
    with (
        explained(source, name="TCS", setting="TIS_SYNC_TCS_URL"),
        alone(source, file.name),
        writing(source) as connection,
    ):
        told = [tuple(row) for row in connection.execute(already)]
        there = pl.DataFrame(told, schema=dict.fromkeys(KEY, pl.Int64()), orient="row")
        missing = wanted.join(there, on=KEY, how="anti").with_columns(
            eventDateTime=pl.lit(now.astimezone(UTC).replace(tzinfo=None)),
            filename=pl.lit(file.name),
            status=pl.lit(EXPORTED),
        )
        insert(connection, EVENT, missing)
    return missing.height


@contextmanager
def alone(source: sa.Engine, name: str) -> Iterator[None]:
    """Nobody else holds this name meanwhile. SQLite's write lock sees to that by itself.

    Raises:
        UnreachableError: somebody has held it for too long; passes.

    """
    if source.dialect.name == "sqlite":
        yield
        return
    with source.connect() as connection:
        taken = sa.select(sa.func.get_lock(name, LOCK_SECONDS))
        if connection.scalar(taken) != 1:
            raise UnreachableError(
                f"TCS at {shown(source.url)}: another process has been writing ({name}) for "
                f"{LOCK_SECONDS} s; tried again by itself."
            )
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.release_lock(name)))
