"""Report exports to TCS: one PlacementEsrEvent for each record of a file, exactly once.

TCS has no unique key that prevents a second event. So a named lock serialises processes that report
the same file, and events that already exist are not written again.
"""

from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import insert
from tis_sync.db.database import Database
from tis_sync.esr.files.numbering import File
from tis_sync.tcs import tables as tcs

EVENT = tcs.PlacementEsrEvent
EXPORTED = "EXPORTED"  # the status that TIS knows
KEY = ("placementId", "positionId", "positionNumber")


def report_exports(source: Database, file: File, records: pl.DataFrame, now: datetime) -> int:
    """Write those events of a file that TCS does not have yet.

    Args:
        source: TCS.
        file: the file.
        records: the records of the file: placement_id, position_id, position_number.
        now: the time that users see as the time of the export.

    Returns:
        The number of events written.

    Raises:
        UnreachableError: TCS does not answer, or another process is reporting this file.

    """
    if records.is_empty():
        return 0
    desired = records.select(
        placementId="placement_id", positionId="position_id", positionNumber="position_number"
    )
    of_file = sa.select(*(EVENT.c[name] for name in KEY)).where(EVENT.c.filename == file.name)
    with source.lock(file.name), source.write() as connection:
        rows = [tuple(row) for row in connection.execute(of_file)]
        existing = pl.DataFrame(rows, schema=dict.fromkeys(KEY, pl.Int64()), orient="row")
        missing = desired.join(existing, on=KEY, how="anti").with_columns(
            eventDateTime=pl.lit(now.astimezone(UTC).replace(tzinfo=None)),
            filename=pl.lit(file.name),
            status=pl.lit(EXPORTED),
        )
        insert(connection, EVENT, missing)
    return missing.height
