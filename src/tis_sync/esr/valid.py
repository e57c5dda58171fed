"""What is wrong with a record, told whole: every reason, not only the first.

ESR rejects a file, or silently loses the line, over a value that does not fit; so what does not fit
is found before a record can reach a file.
"""

from collections.abc import Iterator
from datetime import date

import polars as pl

from tis_sync.esr.layout import RecordType
from tis_sync.esr.lines import unfit

POSTCODE = (
    r"\A(GIR ?0AA|[A-PR-UWYZ]([0-9]{1,2}|[A-HK-Y][0-9]|[A-HK-Y][0-9][0-9ABEHMNPRV-Y]"
    r"|[0-9][A-HJKPS-UW]) ?[0-9][ABD-HJLNP-UW-Z]{2})\z"
)
GMC_NUMBER = r"\A[0-9]{7}\z"
YOUNGEST_YEARS, OLDEST_YEARS = 16, 100


def reasons(body: RecordType, deaneries: tuple[str, ...], today: date) -> pl.Expr:
    """Why records cannot be sent: one text of all reasons, parted by "; "; null where they can.

    Args:
        body: the record type of the layout: mandatory values, formats and lengths.
        deaneries: those that there are.
        today: the day against which dates of birth are judged.

    """
    others = [
        pl.when(wrong).then(reason.cast(pl.String)) for wrong, reason in _rules(deaneries, today)
    ]
    found = unfit(body).list.concat(pl.concat_list(others).list.drop_nulls())
    return pl.when(found.list.len() > 0).then(found.list.join("; "))


def _rules(deaneries: tuple[str, ...], today: date) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    number = pl.col("nationalPostNumber")
    known = pl.col("deanery").is_in(deaneries).fill_null(value=False)
    yield ~known, pl.format("post number '{}' names no deanery", number.fill_null("(none)"))
    yield (
        ~pl.col("postcode").str.contains(POSTCODE),
        pl.format("postcode '{}' is no UK postcode", "postcode"),
    )
    yield (
        pl.col("professionalBody1").is_not_null() & ~pl.col("regNumber1").str.contains(GMC_NUMBER),
        pl.format("GMC number '{}' is not seven digits", "regNumber1"),
    )
    born = pl.col("dob").str.to_date("%Y%m%d", strict=False)
    # 29 February has no counterpart in most years; the first of the month decides well enough.
    youngest = today.replace(year=today.year - YOUNGEST_YEARS, day=1)
    oldest = today.replace(year=today.year - OLDEST_YEARS, day=1)
    yield (
        ~born.is_between(oldest, youngest),
        pl.format("dob {} cannot be right: nobody starts so young or so old", "dob"),
    )
    yield (
        pl.col("projectedEndDate") < pl.col("projectedHireDate"),
        pl.format("it ends ({}) before it starts ({})", "projectedEndDate", "projectedHireDate"),
    )
