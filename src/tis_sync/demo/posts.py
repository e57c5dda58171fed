"""Synthetic posts and the placements of people in them."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.demo.draw import Draw, Size, lookup, numbered, reference
from tis_sync.demo.names import FUNDING_TYPES, PLACEMENT_TYPES, SPECIALTIES
from tis_sync.tcs import tables as t

PLACEMENT_DAYS = 182  # trainees rotate twice a year


def make_posts(
    size: Size, today: date, draw: Draw, offices: pl.DataFrame, programmes: int
) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Make posts with funding, grades, specialties, sites and programmes.

    In some posts, the same trust is both the employing and the training body.
    """
    trusts, sites, grades = reference("trusts"), reference("sites"), reference("grades")
    ids = numbered(size.posts)
    employing = draw.number(trusts.height) + 1
    training = draw.number(trusts.height) + 1
    deaneries = offices["deanery_codes"].str.split(" ").explode()
    yield (
        t.Post,
        ids.select(
            "id",
            nationalPostNumber=pl.concat_str(
                draw.pick(deaneries),
                draw.pick(trusts["code"]),
                pl.col("id") % 900 + 100,
                draw.pick(grades["abbreviation"]),
                pl.col("id"),
                separator="/",
            ),
            status=pl.lit("CURRENT"),
            employingBodyId=pl.when(~draw.one_in(33)).then(employing),
            trainingBodyId=pl.when(draw.one_in(3))
            .then(employing)
            .when(~draw.one_in(33))
            .then(training),
            owner=pl.when(~draw.one_in(33)).then(draw.pick(offices["name"])),
            legacy=pl.lit(False),
            bypassNPNGeneration=pl.lit(False),
            fundingStatus=pl.when(draw.one_in(10))
            .then(pl.lit("INACTIVE"))
            .otherwise(pl.lit("CURRENT")),
        ),
    )
    kind = draw.number(100)
    yield (
        t.PostFunding,
        ids.with_columns(kind=kind).select(
            "id",
            postId="id",
            startDate=pl.when(pl.col("kind") != 5).then(pl.lit(today - timedelta(days=700))),
            endDate=pl.when(pl.col("kind") < 2)
            .then(pl.lit(today - timedelta(days=1)))
            .when(pl.col("kind") < 20)
            .then(pl.lit(today + timedelta(days=300))),
            fundingType=draw.pick(pl.Series(FUNDING_TYPES)),
        ),
    )
    yield (
        t.PostGrade,
        ids.select(
            "id",
            postId="id",
            gradeId=draw.number(grades.height) + 1,
            postGradeType=pl.lit("APPROVED"),
        ),
    )
    yield (
        t.PostSpecialty,
        ids.select(
            "id",
            postId="id",
            specialtyId=draw.number(len(SPECIALTIES)) + 1,
            postSpecialtyType=pl.lit("PRIMARY"),
        ),
    )
    yield (
        t.PostSite,
        ids.select(
            "id", postId="id", siteId=draw.number(sites.height) + 1, postSiteType=pl.lit("PRIMARY")
        ),
    )
    yield (
        t.ProgrammePost,
        ids.select(
            programmeId=draw.number(programmes) + 1,
            postId="id",
            addedDate=pl.lit(datetime(today.year, today.month, today.day)),  # noqa: DTZ001
        ),
    )


def make_placements(size: Size, today: date, draw: Draw) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Make three placements per person: a past one, a future one, and one or two current ones.

    One person in 25 has none.
    """
    sites, grades = reference("sites"), reference("grades")
    per_person = 3
    placements = (
        numbered(size.people * per_person)
        .with_columns(traineeId=(pl.col("id") - 1) // per_person + 1)
        .with_columns(
            turn=(pl.col("id") - 1) % per_person,
            offset=pl.col("traineeId").hash(size.seed) % PLACEMENT_DAYS,
            place=pl.col("traineeId").hash(size.seed + 1) % 100,
        )
        .filter(pl.col("place") >= 4)
        .with_columns(
            # Turn 0 is past, 1 current, 2 future; people with two current placements have 1 twice.
            turn=pl.when((pl.col("place") < 8) & (pl.col("turn") == 2)).then(1).otherwise("turn"),
            gradeId=draw.number(grades.height) + 1,
            siteId=draw.number(sites.height) + 1,
            kind=draw.number(200),
        )
        .with_columns(
            dateFrom=pl.lit(today)
            + pl.duration(days=(pl.col("turn").cast(pl.Int64) - 1) * PLACEMENT_DAYS)
            - pl.duration(days="offset")
        )
    )
    dates = placements.select(
        "id",
        dateFrom=pl.when(pl.col("kind") != 1).then("dateFrom"),
        dateTo=pl.when(pl.col("kind") != 2).then(
            pl.col("dateFrom") + pl.duration(days=PLACEMENT_DAYS - 1)
        ),
        placementWholeTimeEquivalent=draw.pick(pl.Series([1.0, 1.0, 1.0, 0.8, 0.6])),
        traineeId="traineeId",
        postId=draw.number(size.posts) + 1,
        siteCode=lookup(sites["code"], "siteId"),
        gradeAbbreviation=lookup(grades["abbreviation"], "gradeId"),
        placementType=draw.pick(pl.Series(PLACEMENT_TYPES)),
        siteId="siteId",
        gradeId="gradeId",
        lifecycleState=pl.when(draw.one_in(10)).then(pl.lit("DRAFT")).otherwise(pl.lit("APPROVED")),
    )
    yield t.Placement, dates
    yield (
        t.PlacementSpecialty,
        dates.filter(~draw.one_in(50)).select(
            placementId="id",
            specialtyId=draw.number(len(SPECIALTIES)) + 1,
            placementSpecialtyType=pl.lit("PRIMARY"),
        ),
    )
