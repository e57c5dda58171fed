"""Synthetic people and their programme memberships."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import polars as pl
import sqlalchemy as sa

from tis_sync.demo.draw import Draw, Size, numbered, reference, uuid
from tis_sync.demo.names import FORENAMES, SURNAMES
from tis_sync.tcs import tables as t


def make_people(size: Size, today: date, draw: Draw) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Make persons and their details; some have no contact details, GMC number or title."""
    ids = numbered(size.people)
    now = datetime(today.year, today.month, today.day)  # noqa: DTZ001  TCS stores naive UTC
    yield (
        t.Person,
        ids.select(
            "id",
            intrepidId=pl.when(~draw.one_in(3)).then(pl.format("I{}", "id")),
            addedDate=pl.lit(now - timedelta(days=900)),
            amendedDate=pl.lit(now - timedelta(days=30)),
            role=draw.pick(pl.Series(["DR in Training", "DR in Training", "Dentist", None])),
            status=draw.pick(pl.Series(["CURRENT", "CURRENT", "INACTIVE"])),
            publicHealthNumber=pl.when(draw.one_in(40)).then(pl.format("PH{}", "id")),
        ),
    )
    with_contact = ids.filter(~draw.one_in(100))
    forename, surname = draw.pick(pl.Series(FORENAMES)), draw.pick(pl.Series(SURNAMES))
    contact = with_contact.select(
        "id",
        surname=surname,
        forenames=forename,
        legalSurname=pl.when(~draw.one_in(20)).then(surname),
        legalForenames=pl.when(~draw.one_in(20)).then(forename),
        title=draw.pick(pl.Series(["Dr", "Mr", "Ms", "Mrs", None])),
        email=pl.format("person{}@example.nhs.uk", "id"),
        mobileNumber=pl.format("07700{}", (pl.col("id") % 900_000) + 100_000),
        telephoneNumber=pl.when(draw.one_in(2)).then(pl.lit("020 7946 0000")),
        address1=pl.format("{} Example Street", pl.col("id") % 200 + 1),
        address2=pl.lit("Sampletown"),
        address3=pl.when(draw.one_in(3)).then(pl.lit("Testshire")),
        postCode=pl.when(pl.col("id") % 500 == 7)
        .then(pl.lit("SW1A 1A"))  # a typo
        .otherwise(draw.pick(reference("sites")["postcode"])),
        country=pl.lit("United Kingdom"),
        amendedDate=pl.lit(now - timedelta(days=30)),
    )
    yield t.ContactDetails, contact
    yield (
        t.PersonalDetails,
        ids.select(
            "id",
            maritalStatus=draw.pick(pl.Series(["Single", "Married", None])),
            dateOfBirth=draw.day(today - timedelta(days=16_000), 7_000),
            gender=draw.pick(pl.Series(["Male", "Female"])),
            nationality=draw.pick(pl.Series(["United Kingdom", "Ireland", "India", "Poland"])),
            nationalInsuranceNumber=pl.format("QQ{}C", pl.col("id") % 900_000 + 100_000),
            amendedDate=pl.lit(now - timedelta(days=30)),
        ),
    )
    yield (
        t.GmcDetails,
        ids.filter(~draw.one_in(20)).select(
            "id",
            gmcNumber=pl.format("{}", pl.col("id") + 6_000_000),
            gmcStatus=pl.lit("Registered"),
            amendedDate=pl.lit(now),
        ),
    )
    yield (
        t.GdcDetails,
        ids.filter(draw.one_in(20)).select(
            "id",
            gdcNumber=pl.format("{}", pl.col("id") + 100_000),
            gdcStatus=pl.lit("Registered"),
            amendedDate=pl.lit(now),
        ),
    )


def make_memberships(
    size: Size, today: date, draw: Draw, programmes: int
) -> Iterator[tuple[sa.Table, pl.DataFrame]]:
    """Make 1.3 memberships per person; some start today, ended yesterday, or lack a date."""
    start = draw.day(today - timedelta(days=1900), 2000)
    length = draw.number(1400) + 200
    memberships = (
        numbered(size.people * 13 // 10)
        .select(
            "id",
            personId=(pl.col("id") - 1) * 10 // 13 + 1,
            programmeId=draw.number(programmes) + 1,
            start=pl.when(draw.one_in(200)).then(pl.lit(today)).otherwise(start),
            length=length,
            kind=draw.number(200),
        )
        .with_columns(end=pl.col("start") + pl.duration(days="length"))
        .select(
            "id",
            "personId",
            "programmeId",
            uuid=uuid(draw),
            programmeMembershipType=pl.lit("SUBSTANTIVE"),
            trainingNumberId=pl.when(pl.col("id") % 2 == 0).then("id"),
            programmeStartDate=pl.when(pl.col("kind") != 1).then(
                pl.when(pl.col("kind") == 3)
                .then(pl.lit(today - timedelta(days=400)))
                .otherwise("start")
            ),
            programmeEndDate=pl.when(pl.col("kind") != 2).then(
                pl.when(pl.col("kind") == 3)
                .then(pl.lit(today - timedelta(days=1)))
                .otherwise("end")
            ),
            amendedDate=pl.lit(datetime(today.year, today.month, today.day)),  # noqa: DTZ001
        )
    )
    yield t.ProgrammeMembership, memberships.drop("id")
    yield (
        t.CurriculumMembership,
        memberships.select(
            "id",
            "amendedDate",
            curriculumId=draw.number(300) + 1,
            curriculumStartDate="programmeStartDate",
            curriculumEndDate="programmeEndDate",
            programmeMembershipUuid="uuid",
        ),
    )
