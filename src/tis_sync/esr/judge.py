"""Whether records can be sent: their state, with every reason why not, and their content."""

from datetime import date

import polars as pl

from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.eligible import SOURCES
from tis_sync.esr.layout import Layout
from tis_sync.esr.plan import EXPORTED, INVALID, TO_EXPORT
from tis_sync.esr.valid import reasons


def judged(found: pl.LazyFrame, day: date, layout: Layout) -> pl.DataFrame:
    """Applicants as records: TO_EXPORT; INVALID_DATA with its reasons; EXPORTED where TCS says so.

    Args:
        found: as `tis_sync.esr.eligible.applicants` returns it.
        day: the day against which dates are judged.
        layout: of APP files: what a valid record is.

    Returns:
        As `tis_sync.esr.plan.SCHEMA`.

    """
    sent = pl.col("sentIn").is_not_null()
    texts = pl.col("positionId", "positionNumber").cast(pl.String)
    return (
        found.with_columns(texts)
        .with_columns(reason=reasons(layout.body, DEANERIES, day))
        .select(
            "id",
            placement_id=pl.col("placementId"),
            position_id=pl.col("positionId").cast(pl.Int64),
            position_number=pl.col("positionNumber").cast(pl.Int64),
            post_id=pl.col("postId"),
            post_number=pl.col("nationalPostNumber"),
            deanery=pl.col("deanery"),
            start=pl.col("start"),
            content=pl.struct(SOURCES).struct.json_encode(),
            state=pl.when(sent)
            .then(pl.lit(EXPORTED))
            .when(pl.col("reason").is_null())
            .then(pl.lit(TO_EXPORT))
            .otherwise(pl.lit(INVALID)),
            reason=pl.when(sent)
            .then(pl.format("TCS knows it as exported in {}", "sentIn"))
            .otherwise("reason"),
        )
        .collect()
    )
