"""Which placements go to ESR, and what is said of them: pure functions on frames of TCS.

A record has the key (placement, position). A placement is eligible when it is APPROVED, of one of
the types below, starts later than two days and earlier than thirteen weeks from today, and its post
has a position whose latest event is RECONCILED; a post with two such positions (host and lead
employer) makes two records of each placement.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

# Compared without case and without blanks, as users have typed them in many ways.
TYPES = (
    "In post",
    "In post - Acting Up",
    "In post - Extension",
    "Parental Leave",
    "Long-term sick",
    "Suspended",
    "Phased Return",
)
LEAD_DAYS = 2  # a start so near, or nearer, is too late for ESR
WINDOW_WEEKS = 13
NO_NUMBER = ("UNKNOWN", "N/A", "NA", "NONE", "-")  # texts that people write where there is none


def earliest_start(day: date) -> date:
    """The first start that an export of a day can hold."""
    return day + timedelta(days=LEAD_DAYS + 1)


def latest_start(day: date) -> date:
    """The last start that an export of a day can hold."""
    return day + timedelta(weeks=WINDOW_WEEKS, days=-1)


def _in_window(today: date) -> sa.ColumnElement[bool]:
    starts = t.Placement.c.dateFrom
    return sa.and_(
        starts >= earliest_start(today),
        starts <= latest_start(today),
        t.Placement.c.lifecycleState == "APPROVED",
    )


def _of_trainees(table: sa.Table, key: str, *columns: str) -> Read:
    condition = table.c[key] == t.Placement.c.traineeId
    return Read(table, (key, *columns), through=(t.Placement, condition), where=_in_window)


PLACEMENT_COLUMNS = (
    "id", "traineeId", "postId", "dateFrom", "dateTo", "placementType", "lifecycleState",
)  # fmt: skip
POSITION_READS = (
    Read(t.Post, ("id", "nationalPostNumber")),
    Read(
        t.PostEsrEvent,
        ("id", "postId", "eventDateTime", "positionNumber", "positionId", "status"),
    ),
)
READS = (
    Read(t.Placement, PLACEMENT_COLUMNS, where=_in_window),
    *POSITION_READS,
    _of_trainees(
        t.ContactDetails, "id", "surname", "forenames", "legalSurname", "legalForenames",
        "maidenName", "title", "telephoneNumber", "mobileNumber", "email", "address1", "address2",
        "address3", "address4", "postCode", "country",
    ),
    _of_trainees(
        t.PersonalDetails, "id", "maritalStatus", "dateOfBirth", "gender", "nationality",
        "sexualOrientation", "religiousBelief", "ethnicOrigin", "disability",
        "nationalInsuranceNumber",
    ),
    _of_trainees(t.GmcDetails, "id", "gmcNumber", "gmcEndDate"),
    _of_trainees(t.GdcDetails, "id", "gdcNumber", "gdcEndDate"),
    _of_trainees(
        t.ProgrammeMembership, "personId", "uuid", "programmeStartDate", "programmeEndDate",
        "trainingNumberId",
    ),
    Read(t.TrainingNumber, ("id", "trainingNumber")),
    Read(
        t.PlacementEsrEvent, ("placementId", "positionId", "positionNumber", "filename", "status"),
        through=(t.Placement, t.Placement.c.id == t.PlacementEsrEvent.c.placementId),
        where=_in_window,
    ),
)  # fmt: skip


def positions(frames: Frames, prefixes: Mapping[str, str]) -> pl.LazyFrame:
    """The reconciled positions of posts.

    Args:
        frames: TCS: Post, PostEsrEvent.
        prefixes: which deanery a post number's first part means, where not that of its name.

    Returns:
        postId, nationalPostNumber, deanery, positionId, positionNumber; a position once.

    """
    number = pl.col("nationalPostNumber")
    posts = frames["Post"].lazy().select(postId="id", nationalPostNumber=number)
    latest = (
        frames["PostEsrEvent"]
        .lazy()
        .sort("eventDateTime", "id")
        .group_by("positionId", "positionNumber")
        .last()
        .filter(pl.col("status") == "RECONCILED")
    )
    first = number.str.split("/").list.first().str.strip_chars().str.to_uppercase()
    return latest.join(posts, on="postId").select(
        "postId",
        "nationalPostNumber",
        "positionId",
        "positionNumber",
        deanery=first.replace(dict(prefixes)) if prefixes else first,
    )


def obstacle(today: date) -> pl.Expr:
    """Why a placement cannot go to ESR, whatever its post; null where it can.

    Of a frame with the columns of Placement; a placement that is not in TCS has a null `dateFrom`
    and a null `lifecycleState`.
    """
    starts, kind = pl.col("dateFrom"), pl.col("placementType")
    first, last = earliest_start(today), latest_start(today)
    day = starts.dt.strftime("%-d %B %Y")
    return (
        pl.when(pl.col("lifecycleState").is_null())
        .then(pl.lit("the placement was withdrawn: TCS has it no more"))
        .when(pl.col("lifecycleState") != "APPROVED")
        .then(pl.lit("the placement is a draft: it has to be APPROVED"))
        .when(~is_type(kind))
        .then(pl.format("placements of type '{}' do not go to ESR", kind.fill_null("(none)")))
        .when(starts.is_null())
        .then(pl.lit("the placement has no start date"))
        .when(starts < first)
        .then(
            pl.format(
                f"it starts on {{}}, too late for ESR: the first start that can still go is "
                f"{first:%-d %B %Y}",
                day,
            )
        )
        .when(starts > last)
        .then(
            pl.format(
                f"it starts on {{}}, more than {WINDOW_WEEKS} weeks ahead: the last start that "
                f"can go is {last:%-d %B %Y}",
                day,
            )
        )
    )


def is_type(kind: pl.Expr) -> pl.Expr:
    """Whether a placement type goes to ESR; case and blanks do not matter."""
    return _plain(kind).is_in([k.replace(" ", "").lower() for k in TYPES]).fill_null(value=False)


def _plain(kind: pl.Expr) -> pl.Expr:
    return kind.str.replace_all(r"\s", "").str.to_lowercase()


def applicants(frames: Frames, today: date, prefixes: Mapping[str, str]) -> pl.LazyFrame:
    """What should go to ESR: a row a record.

    Args:
        frames: TCS, as `READS` say.
        today: the day (Europe/London) whose window counts.
        prefixes: as in `positions`.

    Returns:
        `id` (placement-position-number), placementId, postId, deanery, nationalPostNumber, start
        (date), sentIn (the file that TCS was told of, by us or the exporter before us), and the
        sources of the APP layout, all text; dates as YYYYMMDD, what is empty as null.

    """
    # `where` has narrowed the read already; said again, this function stands for itself.
    placements = (
        frames["Placement"].lazy().with_columns(obstacle=obstacle(today))
        .filter(pl.col("obstacle").is_null())
        .select(
            pl.col("id").alias("placementId"), "postId", "dateFrom", "dateTo",
            personId="traineeId",
        )
    )  # fmt: skip
    people = _people(frames)
    numbers = _training_numbers(frames, placements)
    position = ["placementId", "positionId", "positionNumber"]
    sent = (
        frames["PlacementEsrEvent"].lazy().unique(position, keep="first", maintain_order=True)
        .select(*position, sentIn="filename")
    )  # fmt: skip
    joined = (
        placements.join(positions(frames, prefixes), on="postId")
        .join(people, on="personId", how="left")
        .join(numbers, on="placementId", how="left")
        .join(sent, on=position, how="left")
    )
    start = pl.col("dateFrom").dt.strftime("%Y%m%d")
    return joined.select(
        pl.concat_str("placementId", "positionId", "positionNumber", separator="-").alias("id"),
        "placementId",
        "postId",
        "deanery",
        pl.col("nationalPostNumber"),
        sentIn="sentIn",
        start=pl.col("dateFrom"),
        effectiveDate=start,
        lastName="lastName",
        firstName="firstName",
        dob="dob",
        positionId=pl.col("positionId").cast(pl.String),
        positionNumber=pl.col("positionNumber").cast(pl.String),
        **{name: pl.col(name) for name in PERSON_SOURCES},
        nationalTrainingNumber="nationalTrainingNumber",
        projectedHireDate=start,
        projectedEndDate=pl.col("dateTo").dt.strftime("%Y%m%d"),
        town=pl.lit(None, pl.String),
        county=pl.lit(None, pl.String),
        countryOfBirth=pl.lit(None, pl.String),
        contactPersonName=pl.lit(None, pl.String),
        contactPersonTel=pl.lit(None, pl.String),
    )


PERSON_SOURCES = (
    "middleNames", "title", "previousLastName", "gender", "applicantEmailAddress", "homeTel",
    "mobileTel", "address1", "address2", "address3", "address4", "postcode", "country",
    "ethnicOriginCode", "nationality", "maritalStatus", "sexualOrientation", "religiousBelief",
    "disability", "professionalBody1", "regNumber1", "expiryDate1", "professionalBody2",
    "regNumber2", "expiryDate2", "ukNino",
)  # fmt: skip
SOURCES = (
    "effectiveDate", "lastName", "firstName", "dob", "positionId", "positionNumber",
    *PERSON_SOURCES, "nationalTrainingNumber", "projectedHireDate", "projectedEndDate", "town",
    "county", "countryOfBirth", "contactPersonName", "contactPersonTel",
)  # fmt: skip


def _people(frames: Frames) -> pl.LazyFrame:
    """What ESR is told of a person, a row a person: `personId` and text columns."""

    def of(table: str, key: str = "id") -> pl.LazyFrame:
        frame = frames[table].lazy()
        texts = pl.col(pl.String).str.strip_chars().replace("", None)
        return frame.unique(key, keep="first").with_columns(texts).rename({key: "personId"})

    forenames = pl.coalesce("legalForenames", "forenames")
    gmc, gdc = _number("gmcNumber"), _number("gdcNumber")
    sex = pl.col("gender").str.slice(0, 1).str.to_uppercase()
    return (
        of("ContactDetails")
        .join(of("PersonalDetails"), on="personId", how="full", coalesce=True)
        .join(of("GmcDetails"), on="personId", how="left")
        .join(of("GdcDetails"), on="personId", how="left")
        .select(
            "personId",
            lastName=pl.coalesce("legalSurname", "surname"),
            firstName=forenames.str.splitn(" ", 2).struct[0],
            middleNames=forenames.str.splitn(" ", 2).struct[1].str.strip_chars(),
            dob=pl.col("dateOfBirth").dt.strftime("%Y%m%d"),
            title=pl.col("title").str.to_uppercase(),
            previousLastName="maidenName",
            gender=pl.when(sex.is_in(["M", "F"])).then(sex),
            applicantEmailAddress="email",
            homeTel="telephoneNumber",
            mobileTel="mobileNumber",
            address1="address1",
            address2="address2",
            address3="address3",
            address4="address4",
            postcode=pl.col("postCode").str.to_uppercase(),
            country="country",
            ethnicOriginCode="ethnicOrigin",
            nationality="nationality",
            maritalStatus="maritalStatus",
            sexualOrientation="sexualOrientation",
            religiousBelief="religiousBelief",
            disability="disability",
            professionalBody1=pl.when(gmc.is_not_null()).then(pl.lit("General Medical Council")),
            regNumber1=gmc,
            expiryDate1=pl.when(gmc.is_not_null()).then(pl.col("gmcEndDate").dt.strftime("%Y%m%d")),
            professionalBody2=pl.when(gdc.is_not_null()).then(pl.lit("General Dental Council")),
            regNumber2=gdc,
            expiryDate2=pl.when(gdc.is_not_null()).then(pl.col("gdcEndDate").dt.strftime("%Y%m%d")),
            ukNino=pl.col("nationalInsuranceNumber").str.replace_all(r"\s", "").str.to_uppercase(),
        )
    )


def _number(name: str) -> pl.Expr:
    return pl.when(~pl.col(name).str.to_uppercase().is_in(NO_NUMBER)).then(pl.col(name))


def _training_numbers(frames: Frames, placements: pl.LazyFrame) -> pl.LazyFrame:
    """The training number of the programme in which the person is when the placement starts.

    Of several, that of the membership which started last.
    """
    memberships = (
        frames["ProgrammeMembership"]
        .lazy()
        .unique("uuid")
        .join(frames["TrainingNumber"].lazy().rename({"id": "trainingNumberId"}),
              on="trainingNumberId")
    )  # fmt: skip
    return (
        placements.select("placementId", "personId", "dateFrom")
        .join(memberships, on="personId")
        .filter(
            pl.col("dateFrom").is_between(pl.col("programmeStartDate"), pl.col("programmeEndDate"))
        )
        .sort("programmeStartDate", "uuid")
        .group_by("placementId")
        .last()
        .select("placementId", nationalTrainingNumber=_text("trainingNumber"))
    )


def _text(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().replace("", None)
