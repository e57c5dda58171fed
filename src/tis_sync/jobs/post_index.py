"""The index `posts`: one document per post."""

from datetime import time

import polars as pl

from tis_sync.jobs.base import AsOf, IndexTarget, Job
from tis_sync.jobs.dates import current
from tis_sync.jobs.reads import current_placement
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import Fields, FieldType, Filter, IndexSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

FIELDS: Fields = {
    "id": FieldType.LONG,
    "currentTraineeSurnames": FieldType.KEYWORD,
    "currentTraineeForenames": FieldType.KEYWORD,
    "nationalPostNumber": FieldType.KEYWORD,
    "primarySiteId": FieldType.LONG,
    "approvedGradeId": FieldType.LONG,
    "primarySpecialtyId": FieldType.LONG,
    "primarySpecialtyCode": FieldType.KEYWORD,
    "primarySpecialtyName": FieldType.KEYWORD,
    "programmeNames": FieldType.KEYWORD,
    "programmeIds": FieldType.LONG,
    "fundingTypes": FieldType.KEYWORD,
    "status": FieldType.KEYWORD,
    "owner": FieldType.KEYWORD,
    "trustIds": FieldType.LONG,
}


def views(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """One row per post.

    The names of the distinct trainees placed there today are joined by ", " in the order of trainee
    ids, or null if there are none. If there are several primary sites, approved grades or primary
    specialties, the one with the smallest id counts. `programmeNames` has the order of
    `programmeIds`. `fundingTypes` are the sorted types of fundings that are current today or have
    no end. `status` is the fundingStatus of the post.

    Returns:
        The columns of `FIELDS` (LONG is Int64, the others are String; columns with a plural name
        are lists, except those of trainees), documentId (String): the id of the post, and
        programmes (String): the programme names to search.

    """
    return (
        frames["Post"]
        .lazy()
        .join(_trainees(frames, as_of), left_on="id", right_on="postId", how="left")
        .join(
            _smallest(frames, "PostSite", "siteId", "PRIMARY", "primarySiteId"), on="id", how="left"
        )
        .join(
            _smallest(frames, "PostGrade", "gradeId", "APPROVED", "approvedGradeId"),
            on="id",
            how="left",
        )
        .join(
            _smallest(frames, "PostSpecialty", "specialtyId", "PRIMARY", "primarySpecialtyId"),
            on="id",
            how="left",
        )
        .join(
            frames["Specialty"]
            .lazy()
            .select(
                primarySpecialtyId="id",
                primarySpecialtyCode="specialtyCode",
                primarySpecialtyName="name",
            ),
            on="primarySpecialtyId",
            how="left",
        )
        .join(_programmes(frames), left_on="id", right_on="postId", how="left")
        .join(_funding_types(frames, as_of), left_on="id", right_on="postId", how="left")
        .join(_trusts(frames), left_on="id", right_on="postId", how="left")
        .with_columns(
            pl.col("programmeNames", "programmeIds", "fundingTypes", "trustIds").fill_null([]),
            status="fundingStatus",
        )
        .select(
            *FIELDS,
            documentId=pl.col("id").cast(pl.String),
            programmes=pl.col("programmeNames").list.join(" "),
        )
    )


def _trainees(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    # All placements and names are read, but only the posts of one partition. Drop the others first.
    posts = frames["Post"].lazy().select("id")
    placements = (
        frames["Placement"]
        .lazy()
        .join(posts, left_on="postId", right_on="id", how="semi")
        .filter(current("dateFrom", "dateTo", as_of.today))
        .select("postId", "traineeId")
        .unique()
    )
    trainees = placements.select("traineeId")
    names = (
        frames["ContactDetails"]
        .lazy()
        .rename({"id": "traineeId"})
        .join(trainees, on="traineeId", how="semi")
    )
    return (
        placements.join(names, on="traineeId")
        .sort("postId", "traineeId")
        .group_by("postId", maintain_order=True)
        .agg(
            currentTraineeSurnames=_joined("surname"),
            currentTraineeForenames=_joined("forenames"),
        )
    )


def _joined(column: str) -> pl.Expr:
    present = pl.col(column).drop_nulls()
    return pl.when(present.len() > 0).then(present.str.join(", "))


def _smallest(frames: Frames, table: str, value: str, kind: str, name: str) -> pl.LazyFrame:
    """The smallest id of one kind in a link table: id (of the post), and a column called `name`."""
    kind_column = {
        "PostSite": "postSiteType",
        "PostGrade": "postGradeType",
        "PostSpecialty": "postSpecialtyType",
    }[table]
    return (
        frames[table]
        .lazy()
        .filter(pl.col(kind_column) == kind)
        .group_by(id="postId")
        .agg(pl.col(value).min().alias(name))
    )


def _programmes(frames: Frames) -> pl.LazyFrame:
    return (
        frames["ProgrammePost"]
        .lazy()
        .join(frames["Programme"].lazy(), left_on="programmeId", right_on="id")
        .sort("postId", "programmeId")
        .group_by("postId", maintain_order=True)
        .agg(programmeNames="programmeName", programmeIds="programmeId")
    )


def _funding_types(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    return (
        frames["PostFunding"]
        .lazy()
        .filter(current("startDate", "endDate", as_of.today) | pl.col("endDate").is_null())
        .group_by("postId")
        .agg(fundingTypes=pl.col("fundingType").drop_nulls().unique().sort())
    )


def _trusts(frames: Frames) -> pl.LazyFrame:
    return (
        frames["PostTrust"]
        .lazy()
        .group_by("postId")
        .agg(trustIds=pl.col("trustId").unique().sort())
    )


POSTS = IndexSpec(
    alias="posts",
    fields=FIELDS,
    filters=(
        Filter("owner", text="owner"),
        Filter("status", text="status"),
        Filter("trust", number="trustIds"),
        Filter("programme", number="programmeIds", text="programmeNames"),
        Filter("grade", number="approvedGradeId"),
        Filter("site", number="primarySiteId"),
        Filter("specialty", number="primarySpecialtyId", text="primarySpecialtyName"),
        Filter("fundingType", text="fundingTypes"),
    ),
)

POST_INDEX = Job(
    name="PostElasticSearchSyncJob",
    old_names=("PostElasticSearchJob", "postElasticSearchSync"),
    lock_name="postsElasticSearchScheduledTask",
    at=time(1, 55),
    description="Keeps one document per post in the index posts",
    impact="posts are missing from search, or search shows yesterday's data about them",
    target=IndexTarget(
        spec=POSTS,
        reads=(
            Read(
                t.Post,
                ("id", "nationalPostNumber", "owner", "fundingStatus"),
                partition_column=t.Post.c.id,
            ),
            # All placements and names: a scan is faster than a lookup per post or trainee.
            Read(
                t.Placement,
                ("id", "traineeId", "postId", "dateFrom", "dateTo"),
                where=current_placement,
            ),
            Read(t.ContactDetails, ("id", "surname", "forenames")),
            Read(
                t.PostSite,
                ("id", "postId", "siteId", "postSiteType"),
                partition_column=t.PostSite.c.postId,
            ),
            Read(
                t.PostGrade,
                ("id", "postId", "gradeId", "postGradeType"),
                partition_column=t.PostGrade.c.postId,
            ),
            Read(
                t.PostSpecialty,
                ("id", "postId", "specialtyId", "postSpecialtyType"),
                partition_column=t.PostSpecialty.c.postId,
            ),
            Read(
                t.ProgrammePost,
                ("programmeId", "postId"),
                partition_column=t.ProgrammePost.c.postId,
            ),
            Read(
                t.PostFunding,
                ("id", "postId", "startDate", "endDate", "fundingType"),
                partition_column=t.PostFunding.c.postId,
            ),
            Read(t.PostTrust, ("postId", "trustId"), partition_column=t.PostTrust.c.postId),
            Read(t.Programme, ("id", "programmeName")),
            Read(t.Specialty, ("id", "specialtyCode", "name")),
        ),
        views=views,
        form=DocumentForm(
            key="id",
            fields=tuple(FIELDS),
            sorted_by=("nationalPostNumber",),
            searched=(
                "currentTraineeSurnames",
                "currentTraineeForenames",
                "primarySpecialtyName",
                "programmes",
                "id",
            ),
        ),
        partition_column=t.Post.c.id,
    ),
    depends_on=("PostEmployingBodyTrustJob", "PostTrainingBodyTrustJob"),
)
