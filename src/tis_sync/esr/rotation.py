"""Notifications of type 1: who is in a post, who comes next, or that it becomes vacant.

For a day they are of the posts in which a placement starts on that day (next becomes current), in
which one starts exactly thirteen weeks later (eligible for the first time), and whose last
placement ended the day before with none after it (vacant). Current and next are paired by post and
site code.
"""

from datetime import date, datetime, time, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.esr.eligible import WINDOW_WEEKS, is_type
from tis_sync.esr.tell import alone
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import explained
from tis_sync.tcs.read import KeyRange, Read, just, polars_type
from tis_sync.tcs.source import Frames, Source
from tis_sync.tcs.write import insert, writing

TABLE = tcs.EsrNotification
TYPE = "1"
LOCK = "tis-sync rotation"
COLUMNS = tuple(column.name for column in TABLE.columns if column.name != "id")
PLACEMENT = (
    "id", "traineeId", "postId", "dateFrom", "dateTo", "siteCode", "gradeAbbreviation",
    "placementWholeTimeEquivalent", "placementType", "lifecycleState",
)  # fmt: skip


def _touched(day: date) -> sa.ColumnElement[bool]:
    """Placements of posts in which something of interest starts or ends."""
    place = tcs.Placement
    starts = sa.or_(
        place.c.dateFrom == day,
        place.c.dateFrom == day + timedelta(weeks=WINDOW_WEEKS),
        place.c.dateTo == day - timedelta(days=1),
    )
    posts = sa.select(place.c.postId).where(starts)
    return sa.and_(
        place.c.postId.in_(posts),
        place.c.dateTo >= day - timedelta(days=1),
        place.c.lifecycleState == "APPROVED",
    )


def reads(day: date) -> tuple[Read, ...]:
    """What the notifications of a day need from TCS."""
    touched = just(_touched(day))

    def of_trainees(table: sa.Table, *columns: str) -> Read:
        condition = table.c.id == tcs.Placement.c.traineeId
        return Read(table, ("id", *columns), through=(tcs.Placement, condition), where=touched)

    return (
        Read(tcs.Placement, PLACEMENT, where=touched),
        Read(tcs.Post, ("id", "nationalPostNumber")),
        of_trainees(
            tcs.ContactDetails, "surname", "forenames", "legalSurname", "legalForenames", "email"
        ),
        of_trainees(tcs.GmcDetails, "gmcNumber"),
    )


def rotation(frames: Frames, day: date) -> pl.DataFrame:
    """The type 1 notifications of a day.

    Args:
        frames: TCS, as `reads` say.
        day: which day (Europe/London).

    Returns:
        The columns of EsrNotification but `id`; `createdDate` is the beginning of the day.

    """
    first_time = day + timedelta(weeks=WINDOW_WEEKS)
    places = (
        frames["Placement"].lazy().filter(
            pl.col("lifecycleState") == "APPROVED", is_type(pl.col("placementType"))
        )
        .join(_people(frames), on="traineeId", how="left")
        .select(
            "id", "postId", "siteCode", "dateFrom", "dateTo", "lastName", "firstName", "gmcNumber",
            "email", "gradeAbbreviation",
            hours=pl.col("placementWholeTimeEquivalent").round(1).cast(pl.String),
        )
        .collect()
    )  # fmt: skip
    now = places.filter(pl.col("dateFrom") <= day, pl.col("dateTo") >= day)
    begins = now.filter(pl.col("dateFrom") == day)
    comes = places.filter(pl.col("dateFrom") > day, pl.col("dateFrom") <= first_time)
    appears = comes.filter(pl.col("dateFrom") == first_time)
    paired = ["postId", "siteCode"]
    soonest = comes.sort("dateFrom", "id").unique(paired, keep="first", maintain_order=True)
    pairs = pl.concat(
        [
            _pair(begins, soonest, "left"),
            _pair(now, appears, "right"),
        ]
    ).unique(["id", "nextId"], keep="first", maintain_order=True)
    ended = places.filter(pl.col("dateTo") == day - timedelta(days=1))
    after = places.filter(pl.col("dateTo") >= day)
    vacant = ended.join(after, on="postId", how="anti").select("postId").unique()
    rows = pl.concat([pairs, vacant], how="diagonal_relaxed")
    posts = frames["Post"].select(postId="id", number="nationalPostNumber")
    return _written(rows.join(posts, on="postId", how="left"), day)


def _people(frames: Frames) -> pl.LazyFrame:
    gmc = frames["GmcDetails"].lazy().unique("id", keep="first")
    return (
        frames["ContactDetails"].lazy().unique("id", keep="first")
        .join(gmc, on="id", how="left")
        .select(
            "gmcNumber", "email",
            traineeId="id",
            lastName=pl.coalesce("legalSurname", "surname"),
            firstName=pl.coalesce("legalForenames", "forenames"),
        )
    )  # fmt: skip


NEXT = {
    "id": "nextId", "dateFrom": "nextFrom", "lastName": "nextLastName",
    "firstName": "nextFirstName", "gmcNumber": "nextGmc", "email": "nextEmail",
    "gradeAbbreviation": "nextGrade",
}  # fmt: skip


def _pair(current: pl.DataFrame, following: pl.DataFrame, keep: str) -> pl.DataFrame:
    """Current beside next, by post and site; those without the other stay where `keep` says."""
    right = following.select("postId", "siteCode", *NEXT).rename(NEXT)
    left = current.select("postId", "siteCode", "id", "dateTo", "lastName", "firstName",
                          "gmcNumber", "hours")  # fmt: skip
    on = ["postId", "siteCode"]
    joined = left.join(right, on=on, how="left" if keep == "left" else "right", nulls_equal=True)
    order = [*left.columns, *(name for name in right.columns if name not in on)]
    return joined.select(order)


def _written(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    prefix = pl.col("number").str.split("/").list.first().str.strip_chars().str.to_uppercase()
    columns = {
        "notificationTitleCode": pl.lit(TYPE),
        "deaneryBody": prefix,
        "deaneryPostNumber": pl.col("number"),
        "managingDeaneryBodyCode": prefix,
        "currentTraineeLastName": pl.col("lastName"),
        "currentTraineeFirstName": pl.col("firstName"),
        "currentTraineeGmcNumber": pl.col("gmcNumber"),
        "currentTraineeProjectedEndDate": pl.col("dateTo"),
        "currentTraineeWorkingHoursIndicator": pl.col("hours"),
        "nextAppointmentTraineeLastName": pl.col("nextLastName"),
        "nextAppointmentTraineeFirstName": pl.col("nextFirstName"),
        "nextAppointmentTraineeGmcNumber": pl.col("nextGmc"),
        "nextAppointmentProjectedStartDate": pl.col("nextFrom"),
        "nextAppointmentTraineeEmailAddress": pl.col("nextEmail"),
        "nextAppointmentTraineeGrade": pl.col("nextGrade"),
        "postVacantAtNextRotation": pl.when(pl.col("nextId").is_null())
        .then(pl.lit("TRUE"))
        .otherwise(pl.lit("FALSE")),
        "createdDate": pl.lit(datetime.combine(day, time())),
    }
    nothing = {
        name: pl.lit(None, polars_type(TABLE.c[name].type))
        for name in COLUMNS
        if name not in columns
    }
    return rows.select(**{name: (columns | nothing)[name] for name in COLUMNS})


def load_rotation(source: sa.Engine, day: date) -> int:
    """Write the type 1 notifications of a day into TCS, those that are not there; how many.

    May be repeated, and for any past day: what was written before is not written again.

    Raises:
        UnreachableError, SourceError: TCS does not answer.

    """
    frames = Source(source, day).load(reads(day), KeyRange()).frames
    wanted = rotation(frames, day)
    made_then = sa.and_(
        TABLE.c.notificationTitleCode == TYPE,
        # Not "=": SQLite compares texts, with or without fractions of a second.
        TABLE.c.createdDate > datetime.combine(day, time()) - timedelta(seconds=1),
        TABLE.c.createdDate < datetime.combine(day, time()) + timedelta(days=1),
    )
    read = Read(TABLE, COLUMNS, where=just(made_then))
    with (
        explained(source, name="TCS", setting="TIS_SYNC_TCS_URL"),
        alone(source, LOCK),
        writing(source) as connection,
    ):
        rows = [tuple(row) for row in connection.execute(read.statement(KeyRange(), day))]
        there = pl.DataFrame(rows, schema=read.schema(), orient="row")
        missing = wanted.join(there, on=COLUMNS, how="anti", nulls_equal=True)
        insert(connection, TABLE, missing)
    return missing.height
