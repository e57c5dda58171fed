"""What has to change in the records so that they say what TCS says: a pure function.

States: TO_EXPORT, INVALID_DATA (with every reason), DELETED_BEFORE_EXPORT (withdrawn, position
deleted, or no longer eligible, before it was sent) and EXPORTED. A record that was claimed for a
file, or EXPORTED, is never touched again; all others follow TCS, back and forth.
"""

from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from tis_sync.reconcile.plan import OLD, Plan, TableTarget, difference
from tis_sync.state import esr as t

TO_EXPORT, EXPORTED = "TO_EXPORT", "EXPORTED"
INVALID, DELETED = "INVALID_DATA", "DELETED_BEFORE_EXPORT"
STATES = (TO_EXPORT, EXPORTED, INVALID, DELETED)
KEYS = ("placement_id", "position_id", "position_number")
VALUES = ("post_id", "post_number", "deanery", "start", "content", "state", "reason")
SCHEMA = {
    "id": pl.String(),
    **dict.fromkeys((*KEYS, "post_id"), pl.Int64()),
    **dict.fromkeys(("post_number", "deanery"), pl.String()),
    "start": pl.Date(),
    **dict.fromkeys(("content", "state", "reason"), pl.String()),
}
_by: sa.Column[int] = t.record.c.placement_id
TARGET = TableTarget(t.record, ("id",), VALUES, by=_by)


@dataclass(frozen=True)
class RecordPlan:
    """What to write. Each frame has `SCHEMA`'s columns.

    Attributes:
        added: records that are not there.
        changed: records as they shall be, and `old_state`, the state that is expected there.
        considered: records that should go, or are invalid, by count.
        removed: how many of `changed` become DELETED_BEFORE_EXPORT.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    considered: int
    removed: int

    def moved(self) -> pl.Expr:
        """Whether a row of `changed` gets another state, or other reasons for the same."""
        return (pl.col("state") != pl.col(OLD + "state")) | pl.col("reason").ne_missing(
            pl.col(OLD + "reason")
        )


def plan(wanted: pl.DataFrame, existing: pl.DataFrame, gone: pl.DataFrame) -> RecordPlan:
    """Compare what should be with what is.

    Args:
        wanted: records that are eligible: `SCHEMA`, state TO_EXPORT or INVALID_DATA.
        existing: records that are there: `SCHEMA`, and `file`.
        gone: id and `why`, of records in `existing` that are not in `wanted`; those that it does
            not name are told to be no longer eligible.

    """
    final = (pl.col("state") == EXPORTED) | pl.col("file").is_not_null()
    sent = existing.filter(final).select("id")
    open_ = existing.filter(~final).select(SCHEMA.keys())
    made: Plan = difference(TARGET, wanted.join(sent, on="id", how="anti").lazy(), open_.lazy())
    lost = (
        made.removed.filter(pl.col("state") != DELETED)
        .join(gone.select("id", "why"), on="id", how="left")
        .join(open_.select("id", *KEYS), on="id")
        .with_columns(**{OLD + "state": pl.col("state"), OLD + "reason": pl.col("reason")})
        .with_columns(
            state=pl.lit(DELETED),
            reason=pl.col("why").fill_null("the placement is no longer eligible"),
        )
    )
    columns = [*SCHEMA, OLD + "state", OLD + "reason"]
    added = made.added.join(wanted.select("id", *KEYS), on="id")
    changed = made.changed.join(wanted.select("id", *KEYS), on="id")
    return RecordPlan(
        added.select(SCHEMA.keys()),
        pl.concat([changed.select(columns), lost.select(columns)]),
        wanted.height,
        lost.height,
    )
