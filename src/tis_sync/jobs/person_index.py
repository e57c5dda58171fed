"""The index `persons`: one document a person and current placement."""

from datetime import date, time

import polars as pl
import sqlalchemy as sa

from tis_sync.jobs.base import AsOf, IndexProduct, Job
from tis_sync.jobs.dates import current, future
from tis_sync.jobs.reads import MEMBERSHIPS
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import Filter, IndexSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

FIELDS = (
    "personId",
    "intrepidId",
    "surname",
    "forenames",
    "fullName",
    "gmcNumber",
    "gdcNumber",
    "publicHealthNumber",
    "gradeId",
    "gradeAbbreviation",
    "siteId",
    "siteCode",
    "placementType",
    "specialty",
    "role",
    "status",
    "currentOwner",
    "currentOwnerRule",
    "trusts",
    "programmeMemberships",
)


def views(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The person views: a row a person and current placement, or a person without one.

    Persons without contact details are left out. `specialty` is the name of the placement's
    primary specialty (the smallest id, if it has several); `trusts` and `programmeMemberships` are
    lists of objects, sorted by trust and by curriculum membership. Columns: `FIELDS`, with
    integers for ids, and documentId: the person's id, with the placement's where there is one.
    """
    placements = (
        frames["Placement"]
        .lazy()
        .filter(current("dateFrom", "dateTo", as_of.today))
        .join(_specialties(frames), left_on="id", right_on="placementId", how="left")
        .select(
            "gradeId",
            "gradeAbbreviation",
            "siteId",
            "siteCode",
            "placementType",
            "specialty",
            personId="traineeId",
            placementId="id",
        )
    )
    return (
        frames["Person"]
        .lazy()
        .rename({"id": "personId"})
        .join(frames["ContactDetails"].lazy().rename({"id": "personId"}), on="personId")
        .join(frames["GmcDetails"].lazy().rename({"id": "personId"}), on="personId", how="left")
        .join(frames["GdcDetails"].lazy().rename({"id": "personId"}), on="personId", how="left")
        .join(
            frames["PersonOwner"]
            .lazy()
            .select(personId="id", currentOwner="owner", currentOwnerRule="rule"),
            on="personId",
            how="left",
        )
        .join(placements, on="personId", how="left")
        # The lists last: every join copies what it finds.
        .join(_trusts(frames), on="personId", how="left")
        .join(_memberships(frames, as_of), on="personId", how="left")
        .with_columns(
            pl.col("trusts").fill_null([]),
            pl.col("programmeMemberships").fill_null([]),
            fullName=pl.when(
                pl.col("forenames").is_not_null() | pl.col("surname").is_not_null()
            ).then(pl.concat_str("forenames", "surname", separator=" ", ignore_nulls=True)),
        )
        .select(
            *FIELDS,
            documentId=pl.concat_str(
                pl.col("personId").cast(pl.String),
                pl.col("placementId").cast(pl.String),
                separator="-",
                ignore_nulls=True,
            ),
        )
    )


def _specialties(frames: Frames) -> pl.LazyFrame:
    """The name of each placement's primary specialty; read are only links of that kind."""
    # The links are read whole, the placements by partition: what is not theirs goes first, or the
    # work of a partition would grow with the size of TCS.
    theirs = frames["Placement"].lazy().select("id")
    return (
        frames["PlacementSpecialty"]
        .lazy()
        .join(theirs, left_on="placementId", right_on="id", how="semi")
        .group_by("placementId")
        .agg(specialtyId=pl.col("specialtyId").min())
        .join(frames["Specialty"].lazy(), left_on="specialtyId", right_on="id")
        .select("placementId", specialty="name")
    )


def _trusts(frames: Frames) -> pl.LazyFrame:
    return (
        frames["PersonTrust"]
        .lazy()
        .sort("personId", "trustId")
        .unique(maintain_order=True)
        .group_by("personId", maintain_order=True)
        .agg(trusts=pl.struct("personId", "trustId"))
    )


def _memberships(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """One object a curriculum membership; PAST also where a date of the membership is missing."""
    status = (
        pl.when(current("programmeStartDate", "programmeEndDate", as_of.today))
        .then(pl.lit("CURRENT"))
        .when(future("programmeStartDate", as_of.today) & pl.col("programmeEndDate").is_not_null())
        .then(pl.lit("FUTURE"))
        .otherwise(pl.lit("PAST"))
    )
    return (
        frames["CurriculumMembership"]
        .lazy()
        .join(
            frames["ProgrammeMembership"].lazy(), left_on="programmeMembershipUuid", right_on="uuid"
        )
        .join(frames["Programme"].lazy(), left_on="programmeId", right_on="id", how="left")
        .sort("personId", "id")
        .group_by("personId", maintain_order=True)
        .agg(
            programmeMemberships=pl.struct(
                "id",
                "personId",
                "programmeId",
                "programmeName",
                "programmeNumber",
                programmeMembershipStatus=status,
            )
        )
    )


def _current_placement(today: date) -> sa.ColumnElement[bool]:
    return sa.and_(t.Placement.c.dateFrom <= today, t.Placement.c.dateTo >= today)


def _primary(_today: date) -> sa.ColumnElement[bool]:
    return t.PlacementSpecialty.c.placementSpecialtyType == "PRIMARY"


KEYWORD = {"type": "keyword", "ignore_above": 8191}  # Lucene takes terms up to 32,766 bytes
LONG = {"type": "long"}

PERSONS = IndexSpec(
    alias="persons",
    mapping={
        **dict.fromkeys(("personId", "gradeId", "siteId"), LONG),
        **dict.fromkeys(
            (
                "intrepidId",
                "surname",
                "forenames",
                "gmcNumber",
                "gdcNumber",
                "publicHealthNumber",
                "gradeAbbreviation",
                "siteCode",
                "placementType",
                "specialty",
                "role",
                "currentOwner",
                "currentOwnerRule",
            ),
            KEYWORD,
        ),
        "fullName": {"type": "text"},
        "status": {"type": "text", "fields": {"keyword": KEYWORD}},
        "trusts": {"type": "nested", "properties": {"personId": LONG, "trustId": LONG}},
        "programmeMemberships": {
            "type": "nested",
            "properties": {
                **dict.fromkeys(("id", "personId", "programmeId"), LONG),
                **dict.fromkeys(
                    ("programmeName", "programmeNumber", "programmeMembershipStatus"), KEYWORD
                ),
            },
        },
    },
    filters=(
        Filter("owner", text="currentOwner"),
        Filter("status", text="status.keyword"),
        Filter("trust", number="trusts.trustId", nested="trusts"),
        Filter(
            "programme",
            number="programmeMemberships.programmeId",
            text="programmeMemberships.programmeName",
            nested="programmeMemberships",
        ),
        Filter("placementType", text="placementType"),
        Filter("grade", number="gradeId", text="gradeAbbreviation"),
        Filter("site", number="siteId", text="siteCode"),
        Filter("specialty", text="specialty"),
    ),
)

PERSON_INDEX = Job(
    name="PersonElasticSearchSyncJob",
    old_names=("PersonElasticSearchJob", "personElasticSearchSync"),
    lock_name="personsElasticSearchScheduledTask",
    at=time(1, 29),
    makes="the index persons holds one document a person and current placement",
    stale="people are missing from search, or found as they were yesterday",
    product=IndexProduct(
        spec=PERSONS,
        reads=(
            Read(
                t.Person,
                ("id", "intrepidId", "role", "status", "publicHealthNumber"),
                by=t.Person.c.id,
            ),
            Read(t.ContactDetails, ("id", "surname", "forenames"), by=t.ContactDetails.c.id),
            Read(t.GmcDetails, ("id", "gmcNumber"), by=t.GmcDetails.c.id),
            Read(t.GdcDetails, ("id", "gdcNumber"), by=t.GdcDetails.c.id),
            Read(t.PersonOwner, ("id", "owner", "rule"), by=t.PersonOwner.c.id),
            Read(t.PersonTrust, ("personId", "trustId"), by=t.PersonTrust.c.personId),
            MEMBERSHIPS,
            Read(
                t.CurriculumMembership,
                ("id", "programmeMembershipUuid"),
                by=t.ProgrammeMembership.c.personId,
                through=(
                    t.ProgrammeMembership,
                    t.CurriculumMembership.c.programmeMembershipUuid
                    == t.ProgrammeMembership.c.uuid,
                ),
            ),
            Read(
                t.Placement,
                (
                    "id",
                    "traineeId",
                    "dateFrom",
                    "dateTo",
                    "siteId",
                    "siteCode",
                    "gradeId",
                    "gradeAbbreviation",
                    "placementType",
                ),
                by=t.Placement.c.traineeId,
                where=_current_placement,
            ),
            # Whole: a scan is quicker than a lookup a placement, and two integers a row are small.
            Read(t.PlacementSpecialty, ("placementId", "specialtyId"), where=_primary),
            Read(t.Programme, ("id", "programmeName", "programmeNumber")),
            Read(t.Specialty, ("id", "name")),
        ),
        views=views,
        form=DocumentForm(
            key="personId",
            fields=FIELDS,
            sorted_by=("surname", "forenames"),
            searched=("gmcNumber", "gdcNumber", "publicHealthNumber", "personId"),
        ),
        keys=t.Person.c.id,
    ),
    depends_on=(
        "PersonOwnerRebuildJob",
        "PersonPlacementEmployingBodyTrustJob",
        "PersonPlacementTrainingBodyTrustJob",
    ),
)
