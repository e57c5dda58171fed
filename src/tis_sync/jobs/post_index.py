"""The index `posts`: one document a post."""

from datetime import date, time

import polars as pl
import sqlalchemy as sa

from tis_sync.jobs.base import AsOf, IndexProduct, Job
from tis_sync.jobs.dates import current
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import Filter, IndexSpec
from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

FIELDS = (
    "id",
    "currentTraineeSurnames",
    "currentTraineeForenames",
    "nationalPostNumber",
    "primarySiteId",
    "approvedGradeId",
    "primarySpecialtyId",
    "primarySpecialtyCode",
    "primarySpecialtyName",
    "programmeNames",
    "programmeIds",
    "fundingTypes",
    "status",
    "owner",
    "trustIds",
)


def views(frames: Frames, as_of: AsOf) -> pl.LazyFrame:
    """The post views: a row a post; columns `FIELDS`, documentId, and programmes for searching.

    The names of the distinct trainees placed there today are joined by ", " in trainee order, null
    when there are none. Of several primary sites, approved grades or primary specialties the
    smallest id counts. `programmeNames` follows `programmeIds`; `fundingTypes` are those of
    fundings current today or without an end, sorted; `status` is the post's fundingStatus.
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
    # Placements and names are read whole, posts by partition: those of others go first.
    posts = frames["Post"].lazy().select("id")
    placements = (
        frames["Placement"]
        .lazy()
        .join(posts, left_on="postId", right_on="id", how="semi")
        .filter(current("dateFrom", "dateTo", as_of.today))
        .select("postId", "traineeId")
        .unique()
    )
    theirs = placements.select("traineeId")
    names = (
        frames["ContactDetails"]
        .lazy()
        .rename({"id": "traineeId"})
        .join(theirs, on="traineeId", how="semi")
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
    """The smallest id of a kind that a post has in a link table: id (the post's), `name`."""
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


def _current_placement(today: date) -> sa.ColumnElement[bool]:
    return sa.and_(t.Placement.c.dateFrom <= today, t.Placement.c.dateTo >= today)


KEYWORD = {"type": "keyword", "ignore_above": 8191}
LONG = {"type": "long"}

POSTS = IndexSpec(
    alias="posts",
    mapping={
        **dict.fromkeys(
            (
                "id",
                "primarySiteId",
                "approvedGradeId",
                "primarySpecialtyId",
                "programmeIds",
                "trustIds",
            ),
            LONG,
        ),
        **dict.fromkeys(
            (
                "currentTraineeSurnames",
                "currentTraineeForenames",
                "nationalPostNumber",
                "primarySpecialtyCode",
                "primarySpecialtyName",
                "programmeNames",
                "fundingTypes",
                "status",
                "owner",
            ),
            KEYWORD,
        ),
    },
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
    makes="the index posts holds one document a post",
    stale="posts are missing from search, or found as they were yesterday",
    product=IndexProduct(
        spec=POSTS,
        reads=(
            Read(t.Post, ("id", "nationalPostNumber", "owner", "fundingStatus"), by=t.Post.c.id),
            Read(
                t.Placement,
                ("id", "traineeId", "postId", "dateFrom", "dateTo"),
                where=_current_placement,
            ),
            # These two whole: one scan is quicker than a lookup a post, or a trainee.
            Read(t.ContactDetails, ("id", "surname", "forenames")),
            Read(t.PostSite, ("id", "postId", "siteId", "postSiteType"), by=t.PostSite.c.postId),
            Read(
                t.PostGrade, ("id", "postId", "gradeId", "postGradeType"), by=t.PostGrade.c.postId
            ),
            Read(
                t.PostSpecialty,
                ("id", "postId", "specialtyId", "postSpecialtyType"),
                by=t.PostSpecialty.c.postId,
            ),
            Read(t.ProgrammePost, ("programmeId", "postId"), by=t.ProgrammePost.c.postId),
            Read(
                t.PostFunding,
                ("id", "postId", "startDate", "endDate", "fundingType"),
                by=t.PostFunding.c.postId,
            ),
            Read(t.PostTrust, ("postId", "trustId"), by=t.PostTrust.c.postId),
            Read(t.Programme, ("id", "programmeName")),
            Read(t.Specialty, ("id", "specialtyCode", "name")),
        ),
        views=views,
        form=DocumentForm(
            key="id",
            fields=FIELDS,
            sorted_by=("nationalPostNumber",),
            searched=(
                "currentTraineeSurnames",
                "currentTraineeForenames",
                "primarySpecialtyName",
                "programmes",
                "id",
            ),
        ),
        keys=t.Post.c.id,
    ),
    depends_on=("PostEmployingBodyTrustJob", "PostTrainingBodyTrustJob"),
)
