"""What ESR receives about an applicant: one mapping for TCS rows and external records."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from tis_sync.esr.applicants.eligibility import obstacle, positions
from tis_sync.tcs.source import Frames

NO_NUMBER = ("UNKNOWN", "N/A", "NA", "NONE", "-")  # what people type if there is no number
GMC, GDC = "General Medical Council", "General Dental Council"
NAMES = ("surname", "legalSurname", "forenames", "legalForenames")
# Layout columns whose text is sent unchanged.
PLAIN = (
    "lastName", "firstName", "middleNames", "previousLastName", "applicantEmailAddress", "homeTel",
    "mobileTel", "address1", "address2", "address3", "address4", "town", "county", "country",
    "ethnicOriginCode", "nationality", "countryOfBirth", "maritalStatus", "sexualOrientation",
    "religiousBelief", "disability", "nationalTrainingNumber", "contactPersonName",
    "contactPersonTel",
)  # fmt: skip
CONVERTED = ("title", "gender", "postcode", "gmcNumber", "gdcNumber", "ukNino")
DATES = ("effectiveDate", "projectedEndDate", "dob", "gmcEndDate", "gdcEndDate")
# An applicant before the mapping: the keys of the record, `start`, and raw values.
RAW_SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),
    **dict.fromkeys(("placementId", "postId", "positionId", "positionNumber"), pl.Int64()),
    **dict.fromkeys(("deanery", "nationalPostNumber", "sentIn"), pl.String()),
    "start": pl.Date(),
    **dict.fromkeys(DATES, pl.Date()),
    **dict.fromkeys((*PLAIN, *CONVERTED), pl.String()),
}


def content(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Map raw values to the columns of the APP layout.

    Leading and trailing whitespace is removed, and an empty text becomes null. Title, postcode and
    National Insurance number are in capitals, the latter without spaces. Gender is M, F or null. A
    professional body is only present with a registration number. Dates are YYYYMMDD.

    Args:
        raw: a frame with the columns of `RAW_SCHEMA`.

    Returns:
        The keys of `raw`, `start`, and the layout's columns that are not keys.

    """
    keys = ["id", "placementId", "postId", "positionId", "positionNumber", "deanery",
            "nationalPostNumber", "sentIn", "start"]  # fmt: skip
    gmc, gdc = _number("gmcNumber"), _number("gdcNumber")
    initial = pl.col("gender").str.slice(0, 1).str.to_uppercase()
    return raw.with_columns(_trimmed(pl.col(*PLAIN, *CONVERTED))).select(
        *keys,
        *PLAIN,
        title=pl.col("title").str.to_uppercase(),
        gender=pl.when(initial.is_in(["M", "F"])).then(initial),
        postcode=pl.col("postcode").str.to_uppercase(),
        ukNino=pl.col("ukNino").str.replace_all(r"\s", "").str.to_uppercase(),
        dob=_day("dob"),
        effectiveDate=pl.coalesce(_day("effectiveDate"), _day("start")),
        projectedHireDate=_day("start"),
        projectedEndDate=_day("projectedEndDate"),
        professionalBody1=pl.when(gmc.is_not_null()).then(pl.lit(GMC)),
        regNumber1=gmc,
        expiryDate1=pl.when(gmc.is_not_null()).then(_day("gmcEndDate")),
        professionalBody2=pl.when(gdc.is_not_null()).then(pl.lit(GDC)),
        regNumber2=gdc,
        expiryDate2=pl.when(gdc.is_not_null()).then(_day("gdcEndDate")),
    )


def applicants(frames: Frames, today: date, prefixes: Mapping[str, str]) -> pl.LazyFrame:
    """The eligible placements of TCS at their positions: one row for each record.

    Args:
        frames: the tables of TCS in `eligibility.READS`.
        today: the day (Europe/London) whose window applies.
        prefixes: as for `positions`.

    Returns:
        As `content` returns. `sentIn` is the file that was reported to TCS for this record, by us
        or by the previous exporter.

    """
    # The reads already select eligible placements; filter again so as not to depend on that.
    placements = (
        frames["Placement"]
        .lazy()
        .with_columns(obstacle=obstacle(today))
        .filter(pl.col("obstacle").is_null())
        .select("postId", "dateTo", placementId="id", personId="traineeId", start="dateFrom")
    )
    position = ["placementId", "positionId", "positionNumber"]
    sent = (
        frames["PlacementEsrEvent"]
        .lazy()
        .unique(position, keep="first", maintain_order=True)
        .select(*position, sentIn="filename")
    )
    joined = (
        placements.join(positions(frames, prefixes), on="postId")
        .join(_people(frames), on="personId", how="left")
        .join(_training_numbers(frames, placements), on="placementId", how="left")
        .join(sent, on=position, how="left")
    )
    raw = joined.with_columns(
        id=pl.concat_str(position, separator="-"),
        effectiveDate="start",
        projectedEndDate="dateTo",
        **{
            name: pl.lit(None, pl.String)
            for name in ("town", "county", "countryOfBirth", "contactPersonName",
                         "contactPersonTel")
        },
    )  # fmt: skip
    return content(raw)


def _people(frames: Frames) -> pl.LazyFrame:
    """The raw values of each person: `personId`, and columns of `RAW_SCHEMA`."""

    def unique(table: str) -> pl.LazyFrame:
        return frames[table].lazy().unique("id", keep="first").rename({"id": "personId"})

    forenames = pl.coalesce("legalForenames", "forenames").str.splitn(" ", 2)
    return (
        unique("ContactDetails")
        .with_columns(_trimmed(pl.col(NAMES)))
        .join(unique("PersonalDetails"), on="personId", how="full", coalesce=True)
        .join(unique("GmcDetails"), on="personId", how="left")
        .join(unique("GdcDetails"), on="personId", how="left")
        .select(
            "personId",
            "title",
            "gender",
            "address1",
            "address2",
            "address3",
            "address4",
            "country",
            "nationality",
            "maritalStatus",
            "sexualOrientation",
            "religiousBelief",
            "disability",
            "gmcNumber",
            "gmcEndDate",
            "gdcNumber",
            "gdcEndDate",
            lastName=pl.coalesce("legalSurname", "surname"),
            firstName=forenames.struct[0],
            middleNames=forenames.struct[1],
            previousLastName="maidenName",
            dob="dateOfBirth",
            applicantEmailAddress="email",
            homeTel="telephoneNumber",
            mobileTel="mobileNumber",
            postcode="postCode",
            ethnicOriginCode="ethnicOrigin",
            ukNino="nationalInsuranceNumber",
        )
    )


def _training_numbers(frames: Frames, placements: pl.LazyFrame) -> pl.LazyFrame:
    """The training number of the programme that the person is in when the placement starts.

    If there are several, the membership that started last counts.
    """
    numbers = frames["TrainingNumber"].lazy().rename({"id": "trainingNumberId"})
    memberships = frames["ProgrammeMembership"].lazy().unique("uuid")
    return (
        placements.select("placementId", "personId", "start")
        .join(memberships.join(numbers, on="trainingNumberId"), on="personId")
        .filter(
            pl.col("start").is_between(pl.col("programmeStartDate"), pl.col("programmeEndDate"))
        )
        .sort("programmeStartDate", "uuid")
        .group_by("placementId")
        .last()
        .select("placementId", nationalTrainingNumber="trainingNumber")
    )


def _trimmed(texts: pl.Expr) -> pl.Expr:
    """Text without leading and trailing whitespace; null if it is empty."""
    return texts.str.strip_chars().replace("", None)


def _number(name: str) -> pl.Expr:
    """A registration number; null if the text means that there is none."""
    return pl.when(~pl.col(name).str.to_uppercase().is_in(NO_NUMBER)).then(pl.col(name))


def _day(name: str) -> pl.Expr:
    return pl.col(name).dt.strftime("%Y%m%d")
