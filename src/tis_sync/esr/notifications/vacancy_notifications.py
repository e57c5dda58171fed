"""Vacancy notifications (type 1): who is in a post, who comes next, or that it becomes vacant.

A day has notifications for three kinds of posts: those in which a placement starts on that day
(next becomes current), those in which one starts exactly thirteen weeks later (eligible for the
first time), and those whose last placement ended the day before (vacant). Current and next
placements are paired by post and site code.
"""

from datetime import date, datetime, time, timedelta
from typing import Literal

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import insert
from tis_sync.db.database import Database
from tis_sync.esr.applicants.eligibility import is_exported_type
from tis_sync.esr.calendar import WINDOW_WEEKS
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.columns import as_code, comparable, polars_type
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Frames, Source

TABLE = tcs.EsrNotification
TYPE = "1"
LOCK = "tis-sync notifications"
PAIR = ("postId", "siteCode")  # the same in the current and the next placement
COLUMNS = tuple(column.name for column in TABLE.columns if column.name != "id")
PLACEMENT_COLUMNS = (
    "id", "traineeId", "postId", "dateFrom", "dateTo", "siteCode", "gradeAbbreviation",
    "placementWholeTimeEquivalent", "placementType", "lifecycleState",
)  # fmt: skip
NEXT = {
    "id": "nextId", "dateFrom": "nextFrom", "lastName": "nextLastName",
    "firstName": "nextFirstName", "gmcNumber": "nextGmc", "email": "nextEmail",
    "gradeAbbreviation": "nextGrade",
}  # fmt: skip


def reads(day: date) -> tuple[Read, ...]:
    """The reads from TCS that the notifications of a day need."""
    affected = always(_affected(day))

    def of_trainees(table: sa.Table, *columns: str) -> Read:
        condition = table.c.id == tcs.Placement.c.traineeId
        return Read(table, ("id", *columns), join=(tcs.Placement, condition), where=affected)

    return (
        Read(tcs.Placement, PLACEMENT_COLUMNS, where=affected),
        Read(tcs.Post, ("id", "nationalPostNumber")),
        of_trainees(
            tcs.ContactDetails, "surname", "forenames", "legalSurname", "legalForenames", "email"
        ),
        of_trainees(tcs.GmcDetails, "gmcNumber"),
    )


def _affected(day: date) -> sa.ColumnElement[bool]:
    """Placements in posts where the start or end of a placement makes a notification due."""
    placement = tcs.Placement
    events = sa.or_(
        placement.c.dateFrom == day,
        placement.c.dateFrom == day + timedelta(weeks=WINDOW_WEEKS),
        placement.c.dateTo == day - timedelta(days=1),
    )
    posts = sa.select(placement.c.postId).where(events)
    return sa.and_(
        placement.c.postId.in_(posts),
        placement.c.dateTo >= day - timedelta(days=1),
        comparable(placement.c.lifecycleState) == "APPROVED",
    )


def vacancy_notifications(frames: Frames, day: date) -> pl.DataFrame:
    """The vacancy notifications of a day.

    Args:
        frames: the tables of TCS, as `reads` lists them.
        day: the day (Europe/London).

    Returns:
        The columns of EsrNotification except `id`; `createdDate` is the start of the day.

    """
    window_end = day + timedelta(weeks=WINDOW_WEEKS)
    placements = (
        frames["Placement"]
        .lazy()
        .filter(
            pl.col("lifecycleState") == "APPROVED", is_exported_type(pl.col("placementType"))
        )
        .join(_people(frames), on="traineeId", how="left")
        .select(
            "id", "postId", as_code(pl.col("siteCode")), "dateFrom", "dateTo", "lastName",
            "firstName", "gmcNumber", "email", "gradeAbbreviation",
            hours=pl.col("placementWholeTimeEquivalent").round(1).cast(pl.String),
        )
        .collect()
    )  # fmt: skip
    current = placements.filter(pl.col("dateFrom") <= day, pl.col("dateTo") >= day)
    starting = current.filter(pl.col("dateFrom") == day)
    coming = placements.filter(pl.col("dateFrom") > day, pl.col("dateFrom") <= window_end)
    newly_eligible = coming.filter(pl.col("dateFrom") == window_end)
    soonest = coming.sort("dateFrom", "id").unique(PAIR, keep="first", maintain_order=True)
    pairs = pl.concat(
        [_pair(starting, soonest, "left"), _pair(current, newly_eligible, "right")]
    ).unique(["id", "nextId"], keep="first", maintain_order=True)
    ended = placements.filter(pl.col("dateTo") == day - timedelta(days=1))
    later = placements.filter(pl.col("dateTo") >= day)
    vacant = ended.join(later, on="postId", how="anti").select("postId").unique()
    rows = pl.concat([pairs, vacant], how="diagonal_relaxed")
    posts = frames["Post"].select(postId="id", number="nationalPostNumber")
    return _notifications(rows.join(posts, on="postId", how="left"), day)


def _people(frames: Frames) -> pl.LazyFrame:
    gmc = frames["GmcDetails"].lazy().unique("id", keep="first")
    return (
        frames["ContactDetails"]
        .lazy()
        .unique("id", keep="first")
        .join(gmc, on="id", how="left")
        .select(
            "gmcNumber",
            "email",
            traineeId="id",
            lastName=pl.coalesce("legalSurname", "surname"),
            firstName=pl.coalesce("legalForenames", "forenames"),
        )
    )


def _pair(
    current: pl.DataFrame, following: pl.DataFrame, keep: Literal["left", "right"]
) -> pl.DataFrame:
    """Pair current with next placements, by post and site.

    Args:
        current: the left side.
        following: the right side.
        keep: the side whose unpaired placements are kept.

    """
    right = following.select(*PAIR, *NEXT).rename(NEXT)
    left = current.select(*PAIR, "id", "dateTo", "lastName", "firstName", "gmcNumber", "hours")
    joined = left.join(right, on=PAIR, how=keep, nulls_equal=True)
    return joined.select([*left.columns, *(name for name in right.columns if name not in PAIR)])


def _notifications(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Pairs and vacant posts as rows of EsrNotification."""
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
    empty = {
        name: pl.lit(None, polars_type(TABLE.c[name].type))
        for name in COLUMNS
        if name not in columns
    }
    return rows.select(**{name: (columns | empty)[name] for name in COLUMNS})


def existing_read(day: date) -> Read:
    """The vacancy notifications of a day that TCS has."""
    of_day = sa.and_(
        comparable(TABLE.c.notificationTitleCode) == TYPE,
        # Not "=": SQLite compares text, with or without fractions of a second.
        TABLE.c.createdDate > datetime.combine(day, time()) - timedelta(seconds=1),
        TABLE.c.createdDate < datetime.combine(day, time()) + timedelta(days=1),
    )
    return Read(TABLE, COLUMNS, where=always(of_day))


def load_day(source: Database, day: date) -> int:
    """Write the vacancy notifications of a day that TCS does not have yet.

    The load can be repeated, also for a past day: nothing is written twice.

    Returns:
        The number of notifications written.

    Raises:
        UnreachableError, SourceError: TCS does not answer.

    """
    frames = Source(source, day).load(reads(day), ALL_KEYS).frames
    desired = vacancy_notifications(frames, day)
    read = existing_read(day)
    with source.lock(LOCK), source.write() as connection:
        rows = [tuple(row) for row in connection.execute(read.statement(ALL_KEYS, day))]
        existing = pl.DataFrame(rows, schema=read.schema(), orient="row")
        missing = desired.join(existing, on=COLUMNS, how="anti", nulls_equal=True)
        insert(connection, TABLE, missing)
    return missing.height
