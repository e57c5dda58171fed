"""The index `persons`: one document per person and current placement."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, IndexTarget, Job
from tis_sync.jobs.dates import current, future
from tis_sync.jobs.reads import MEMBERSHIPS, current_placement
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import Fields, FieldType, Filter, IndexSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.columns import comparable
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Frames

FIELDS: Fields = {
    "personId": FieldType.LONG,
    "intrepidId": FieldType.KEYWORD,
    "surname": FieldType.KEYWORD,
    "forenames": FieldType.KEYWORD,
    "fullName": FieldType.TEXT,
    "gmcNumber": FieldType.KEYWORD,
    "gdcNumber": FieldType.KEYWORD,
    "publicHealthNumber": FieldType.KEYWORD,
    "gradeId": FieldType.LONG,
    "gradeAbbreviation": FieldType.KEYWORD,
    "siteId": FieldType.LONG,
    "siteCode": FieldType.KEYWORD,
    "placementType": FieldType.KEYWORD,
    "specialty": FieldType.KEYWORD,
    "role": FieldType.KEYWORD,
    "status": FieldType.TEXT_AND_KEYWORD,
    "currentOwner": FieldType.KEYWORD,
    "currentOwnerRule": FieldType.KEYWORD,
    "trusts": {"personId": FieldType.LONG, "trustId": FieldType.LONG},
    "programmeMemberships": {
        "id": FieldType.LONG,
        "personId": FieldType.LONG,
        "programmeId": FieldType.LONG,
        "programmeName": FieldType.KEYWORD,
        "programmeNumber": FieldType.KEYWORD,
        "programmeMembershipStatus": FieldType.KEYWORD,
    },
}


def views(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """One row per person and current placement, and one per person without a current placement.

    Persons without contact details are left out. `specialty` is the name of the placement's primary
    specialty; if there are several, the one with the smallest id. `trusts` and
    `programmeMemberships` are lists of structs, sorted by trust and by curriculum membership.

    Returns:
        The columns of `FIELDS` (LONG is Int64, the others are String), and documentId (String):
        PERSON or PERSON-PLACEMENT.

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
        # Join the lists last, because every join copies its columns.
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
    """The name of the primary specialty of each placement: placementId, specialty."""
    # The links of all placements are read, but only the placements of one partition. Drop the other
    # links first, or the work of a partition would grow with the size of TCS.
    placements = frames["Placement"].lazy().select("id")
    return (
        frames["PlacementSpecialty"]
        .lazy()
        .join(placements, left_on="placementId", right_on="id", how="semi")
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
    """One struct per curriculum membership; PAST also applies if one of its dates is missing."""
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


PERSONS = IndexSpec(
    alias="persons",
    fields=FIELDS,
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
    description="Keeps one document per person and current placement in the index persons",
    impact="people are missing from search, or search shows yesterday's data about them",
    target=IndexTarget(
        spec=PERSONS,
        reads=(
            Read(
                t.Person,
                ("id", "intrepidId", "role", "status", "publicHealthNumber"),
                partition_column=t.Person.c.id,
            ),
            Read(
                t.ContactDetails,
                ("id", "surname", "forenames"),
                partition_column=t.ContactDetails.c.id,
            ),
            Read(t.GmcDetails, ("id", "gmcNumber"), partition_column=t.GmcDetails.c.id),
            Read(t.GdcDetails, ("id", "gdcNumber"), partition_column=t.GdcDetails.c.id),
            Read(t.PersonOwner, ("id", "owner", "rule"), partition_column=t.PersonOwner.c.id),
            Read(t.PersonTrust, ("personId", "trustId"), partition_column=t.PersonTrust.c.personId),
            MEMBERSHIPS,
            Read(
                t.CurriculumMembership,
                ("id", "programmeMembershipUuid"),
                partition_column=t.ProgrammeMembership.c.personId,
                join=(
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
                partition_column=t.Placement.c.traineeId,
                where=current_placement,
            ),
            # All links: a scan is faster than a lookup per placement, and a row is two integers.
            Read(
                t.PlacementSpecialty,
                ("placementId", "specialtyId"),
                where=always(
                    comparable(t.PlacementSpecialty.c.placementSpecialtyType) == "PRIMARY"
                ),
            ),
            Read(t.Programme, ("id", "programmeName", "programmeNumber")),
            Read(t.Specialty, ("id", "name")),
        ),
        views=views,
        form=DocumentForm(
            key="personId",
            fields=tuple(FIELDS),
            sorted_by=("surname", "forenames"),
            searched=("gmcNumber", "gdcNumber", "publicHealthNumber", "personId"),
        ),
        partition_column=t.Person.c.id,
    ),
    depends_on=(
        "PersonOwnerRebuildJob",
        "PersonPlacementEmployingBodyTrustJob",
        "PersonPlacementTrainingBodyTrustJob",
    ),
)
