"""The plan for the records: what must change so that they match TCS; a pure function.

A record that is claimed for a file or EXPORTED never changes again. All others follow TCS, in
either direction.
"""

from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from tis_sync.esr.records import RecordState
from tis_sync.reconcile.table_plan import OLD, TableSpec, difference
from tis_sync.state import esr_tables as t

KEYS = ("placement_id", "position_id", "position_number")
VALUES = ("post_id", "post_number", "deanery", "start", "content", "state", "reason")
SCHEMA = {
    "id": pl.String(),
    **dict.fromkeys((*KEYS, "post_id"), pl.Int64()),
    **dict.fromkeys(("post_number", "deanery"), pl.String()),
    "start": pl.Date(),
    **dict.fromkeys(("content", "state", "reason"), pl.String()),
}
_partition_column: sa.Column[int] = t.record.c.placement_id
TARGET = TableSpec(t.record, ("id",), VALUES, partition_column=_partition_column)


@dataclass(frozen=True)
class RecordPlan:
    """The changes to write.

    Attributes:
        added: new records, with the columns of `SCHEMA`.
        changed: existing records in their desired form, with the columns of `SCHEMA`, and
            `old_state` and `old_reason`, the values that are expected in the database.
        considered: how many records should exist.
        removed: how many of `changed` become DELETED_BEFORE_EXPORT.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    considered: int
    removed: int

    def changes_state(self) -> pl.Expr:
        """Whether a row of `changed` changes the state, or the reasons for the same state."""
        other_reason = pl.col("reason").ne_missing(pl.col(OLD + "reason"))
        return (pl.col("state") != pl.col(OLD + "state")) | other_reason


def plan(desired: pl.DataFrame, existing: pl.DataFrame, reasons: pl.DataFrame) -> RecordPlan:
    """Plan the changes that turn the existing records into the desired ones.

    Args:
        desired: the eligible records, with the columns of `SCHEMA`.
        existing: the existing records, with the columns of `SCHEMA`, and `file`.
        reasons: why existing records are not desired: `id` and `why`. The default reason is that
            the placement is no longer eligible.

    """
    is_final = (pl.col("state") == RecordState.EXPORTED.value) | pl.col("file").is_not_null()
    final = existing.filter(is_final).select("id")
    open_ = existing.filter(~is_final).select(SCHEMA.keys())
    open_desired = desired.join(final, on="id", how="anti")
    changes = difference(TARGET, open_desired.lazy(), open_.lazy())
    removed = (
        changes.removed.filter(pl.col("state") != RecordState.DELETED_BEFORE_EXPORT.value)
        .join(reasons.select("id", "why"), on="id", how="left")
        .join(open_.select("id", *KEYS), on="id")
        .with_columns(**{OLD + "state": pl.col("state"), OLD + "reason": pl.col("reason")})
        .with_columns(
            state=pl.lit(RecordState.DELETED_BEFORE_EXPORT.value),
            reason=pl.col("why").fill_null("the placement is no longer eligible"),
        )
    )
    columns = [*SCHEMA, OLD + "state", OLD + "reason"]
    added = changes.added.join(desired.select("id", *KEYS), on="id")
    changed = changes.changed.join(desired.select("id", *KEYS), on="id")
    return RecordPlan(
        added.select(SCHEMA.keys()),
        pl.concat([changed.select(columns), removed.select(columns)]),
        desired.height,
        removed.height,
    )
