"""Synthetic ESR data in TCS: positions of posts, training numbers and notifications."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.demo.draw import Draw, Size, numbered
from tis_sync.tcs import tables as t

SEED_OFFSET = 7919  # draws here must not change what other modules draw
FIRST_POSITION_ID = 50_000_000
PEOPLE_PER_NOTIFICATION = 200


def make_esr(
    size: Size, today: date, frames: Mapping[str, pl.DataFrame]
) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Make positions, training numbers and notifications.

    Most posts have a reconciled position. One in eight has two (host and lead employer), one in
    ten has lost its position, and one in ten never had one.

    Args:
        size: the size of the synthetic TCS.
        today: the day around which all dates are spread.
        frames: the tables Post and ProgrammeMembership, by name.

    """
    draw = Draw(size.seed + SEED_OFFSET)
    posts = frames["Post"].select("id", "nationalPostNumber").with_columns(kind=draw.number(40))
    yield t.PostEsrEvent, _positions(posts, today)
    members = frames["ProgrammeMembership"].filter(pl.col("trainingNumberId").is_not_null())
    yield (
        t.TrainingNumber,
        members.select(
            id="trainingNumberId",
            trainingNumberType=pl.lit("NTN"),
            number=pl.col("trainingNumberId") % 1000,
            trainingNumber=pl.format(
                "LDN/800/{}/C", pl.col("trainingNumberId").cast(pl.String).str.zfill(6)
            ),
        ),
    )
    yield t.EsrNotification, _notifications(size, today, draw, posts)


def _positions(posts: pl.DataFrame, today: date) -> pl.DataFrame:
    """Position events, oldest first."""
    midnight = datetime(today.year, today.month, today.day)  # noqa: DTZ001  TCS stores naive UTC
    first = posts.filter(pl.col("kind") >= 4).with_columns(
        position=pl.col("id"),
        at=pl.lit(midnight - timedelta(days=200)),
        status=pl.lit("RECONCILED"),
    )
    second = posts.filter(pl.col("kind") >= 35).with_columns(
        position=pl.col("id") + posts.height,
        at=pl.lit(midnight - timedelta(days=150)),
        status=pl.lit("RECONCILED"),
    )
    deleted = posts.filter(pl.col("kind").is_between(4, 7)).with_columns(
        position=pl.col("id"), at=pl.lit(midnight - timedelta(days=20)), status=pl.lit("DELETED")
    )
    events = pl.concat([first, second, deleted]).sort("at", "id").with_row_index("number", 1)
    prefix = pl.col("nationalPostNumber").str.split("/").list.first()
    return events.select(
        id=pl.col("number").cast(pl.Int64),
        postId="id",
        eventDateTime="at",
        filename=pl.concat_str(
            pl.lit("DE_"),
            prefix,
            pl.lit("_RMC_") + pl.col("at").dt.strftime("%Y%m%d") + pl.lit("_00003457.DAT"),
        ),
        positionNumber=pl.col("position") + 1000,
        positionId=pl.col("position") + FIRST_POSITION_ID,
        status="status",
    )


def _notifications(size: Size, today: date, draw: Draw, posts: pl.DataFrame) -> pl.DataFrame:
    """Withdrawals, changed dates and new posts from the last three days."""
    midnight = datetime(today.year, today.month, today.day)  # noqa: DTZ001
    rows = numbered(max(6, size.people // PEOPLE_PER_NOTIFICATION)).with_columns(
        kind=draw.number(3),
        number=draw.pick(posts["nationalPostNumber"]),
        days=draw.number(3),
        gmc=pl.format("{}", draw.number(900_000) + 6_000_000),
        start=draw.day(today, 60),
        vpd=draw.number(400).cast(pl.String),
    )
    prefix = pl.col("number").str.split("/").list.first()
    withdrawn, changed = pl.col("kind") == 0, pl.col("kind") == 1
    return rows.select(
        "id",
        notificationTitleCode=pl.when(withdrawn).then(pl.lit("2")).when(changed)
        .then(pl.lit("4")).otherwise(pl.lit("5")),
        deaneryBody=prefix,
        deaneryPostNumber="number",
        managingDeaneryBodyCode=prefix,
        hostLeadEmployerStatus=pl.lit("H"),
        withdrawnTraineeLastName=pl.when(withdrawn).then(pl.lit("O'Brien")),
        withdrawnTraineeFirstName=pl.when(withdrawn).then(pl.lit("Siân")),
        withdrawnTraineeGmcNumber=pl.when(withdrawn).then("gmc"),
        withdrawalReason=pl.when(withdrawn).then(pl.lit("3")),
        nextAppointmentTraineeGmcNumber=pl.when(changed).then("gmc"),
        nextAppointmentCurrentPlacementVpd=pl.when(changed).then("vpd"),
        changeOfProjectedHireDate=pl.when(changed).then("start"),
        postVacantAtNextRotation=pl.when(~withdrawn & ~changed).then(pl.lit("TRUE")),
        createdDate=pl.lit(midnight) - pl.duration(days="days"),
    )  # fmt: skip
