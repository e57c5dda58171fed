"""Validation: whether records can be sent, every reason why not, and their content.

If a value does not fit, ESR rejects the file or silently drops the line. So validation finds such
a value before its record can reach a file.
"""

from collections.abc import Iterator
from datetime import date

import polars as pl

from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.files.columns import APPLICANT_COLUMNS
from tis_sync.esr.files.flat_file import quoted, unfit
from tis_sync.esr.files.layout import Layout
from tis_sync.esr.records import RecordState

POSTCODE = (
    r"\A(GIR ?0AA|[A-PR-UWYZ]([0-9]{1,2}|[A-HK-Y][0-9]|[A-HK-Y][0-9][0-9ABEHMNPRV-Y]"
    r"|[0-9][A-HJKPS-UW]) ?[0-9][ABD-HJLNP-UW-Z]{2})\z"
)
GMC_NUMBER = r"\A[0-9]{7}\z"
YOUNGEST_YEARS, OLDEST_YEARS = 16, 100


def validate(applicants: pl.LazyFrame, day: date, layout: Layout) -> pl.DataFrame:
    """Turn applicants into records: TO_EXPORT, INVALID_DATA, or EXPORTED if TCS says so.

    Args:
        applicants: as `content` returns them.
        day: the day with which dates of birth are compared.
        layout: the layout of APP files: mandatory values, formats and lengths.

    Returns:
        A frame with the columns of `plan.SCHEMA`; INVALID_DATA has every reason.

    """
    is_sent = pl.col("sentIn").is_not_null()
    position = pl.col("positionId", "positionNumber").cast(pl.String)
    records = (
        applicants.with_columns(position)
        .with_columns(reason=_reasons(layout, day))
        .select(
            "id",
            placement_id=pl.col("placementId"),
            position_id=pl.col("positionId").cast(pl.Int64),
            position_number=pl.col("positionNumber").cast(pl.Int64),
            post_id=pl.col("postId"),
            post_number=pl.col("nationalPostNumber"),
            deanery=pl.col("deanery"),
            start=pl.col("start"),
            content=pl.struct(APPLICANT_COLUMNS).struct.json_encode(),
            state=pl.when(is_sent)
            .then(pl.lit(RecordState.EXPORTED.value))
            .when(pl.col("reason").is_null())
            .then(pl.lit(RecordState.TO_EXPORT.value))
            .otherwise(pl.lit(RecordState.INVALID_DATA.value)),
            reason=pl.when(is_sent)
            .then(pl.format("TCS records it as exported in {}", "sentIn"))
            .otherwise("reason"),
        )
    )
    return records.collect()


def _reasons(layout: Layout, day: date) -> pl.Expr:
    """Why records cannot be sent: all reasons, separated by "; ", or null if they can."""
    rules = [pl.when(wrong).then(reason.cast(pl.String)) for wrong, reason in _rules(day)]
    reasons = unfit(layout.body).list.concat(pl.concat_list(rules).list.drop_nulls())
    return pl.when(reasons.list.len() > 0).then(reasons.list.join("; "))


def _rules(day: date) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    """The rules beyond the layout: the condition for an invalid record, and the reason."""
    number = quoted(pl.col("nationalPostNumber").fill_null("(none)"))
    is_known = pl.col("deanery").is_in(DEANERIES).fill_null(value=False)
    yield (
        ~is_known,
        pl.format("post number '{}' names no deanery", number),
    )
    yield (
        ~pl.col("postcode").str.contains(POSTCODE),
        pl.format("postcode '{}' is not a UK postcode", quoted(pl.col("postcode"))),
    )
    yield (
        pl.col("professionalBody1").is_not_null() & ~pl.col("regNumber1").str.contains(GMC_NUMBER),
        pl.format("GMC number '{}' does not have seven digits", quoted(pl.col("regNumber1"))),
    )
    born = pl.col("dob").str.to_date("%Y%m%d", strict=False)
    # Most years have no 29 February; the first of the month is precise enough.
    youngest = day.replace(year=day.year - YOUNGEST_YEARS, day=1)
    oldest = day.replace(year=day.year - OLDEST_YEARS, day=1)
    yield (
        ~born.is_between(oldest, youngest),
        pl.format(
            f"dob {{}} is implausible: an applicant is {YOUNGEST_YEARS} to {OLDEST_YEARS} years "
            "old",
            "dob",
        ),
    )
    yield (
        pl.col("projectedEndDate") < pl.col("projectedHireDate"),
        pl.format("it ends ({}) before it starts ({})", "projectedEndDate", "projectedHireDate"),
    )
