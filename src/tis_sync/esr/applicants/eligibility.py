"""Eligibility: which placements go to ESR; pure functions on frames of TCS.

A record has the key (placement, position). A placement is eligible if it is APPROVED, has one of
the types below, starts more than two days and less than thirteen weeks from today, and its post has
a position whose latest event is RECONCILED. If a post has two such positions (host and lead
employer), each of its placements has two records.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl
import sqlalchemy as sa

from tis_sync.esr.calendar import WINDOW_WEEKS, earliest_start, latest_start
from tis_sync.tcs import tables as t
from tis_sync.tcs.columns import comparable
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Frames

# Compared without case and spaces, because people type them in many ways.
EXPORTED_TYPES = (
    "In post",
    "In post - Acting Up",
    "In post - Extension",
    "Parental Leave",
    "Long-term sick",
    "Suspended",
    "Phased Return",
)


def _in_window(today: date) -> sa.ColumnElement[bool]:
    starts = t.Placement.c.dateFrom
    return sa.and_(
        starts >= earliest_start(today),
        starts <= latest_start(today),
        comparable(t.Placement.c.lifecycleState) == "APPROVED",
    )


def _of_trainees(table: sa.Table, key: str, *columns: str) -> Read:
    condition = table.c[key] == t.Placement.c.traineeId
    return Read(table, (key, *columns), join=(t.Placement, condition), where=_in_window)


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
        join=(t.Placement, t.Placement.c.id == t.PlacementEsrEvent.c.placementId),
        where=_in_window,
    ),
)  # fmt: skip


def positions(frames: Frames, prefixes: Mapping[str, str]) -> pl.LazyFrame:
    """The reconciled positions of posts.

    Args:
        frames: the tables Post and PostEsrEvent of TCS.
        prefixes: the setting `esr_deaneries`: the deanery for the first part of a post number,
            where that part is not itself the code of the deanery.

    Returns:
        postId, nationalPostNumber, deanery, positionId, positionNumber; each position once.

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
    prefix = number.str.split("/").list.first().str.strip_chars().str.to_uppercase()
    return latest.join(posts, on="postId").select(
        "postId",
        "nationalPostNumber",
        "positionId",
        "positionNumber",
        deanery=prefix.replace(dict(prefixes)) if prefixes else prefix,
    )


def obstacle(today: date) -> pl.Expr:
    """Why a placement cannot go to ESR, apart from its post; null if it can.

    The frame has the columns of Placement. A placement that is not in TCS has a null `dateFrom`
    and a null `lifecycleState`.
    """
    starts, kind = pl.col("dateFrom"), pl.col("placementType")
    first, last = earliest_start(today), latest_start(today)
    day = starts.dt.strftime("%-d %B %Y")
    too_late = pl.format(
        f"it starts on {{}}, which is too soon for ESR: the first start date that can still be "
        f"exported is {first:%-d %B %Y}",
        day,
    )
    too_early = pl.format(
        f"it starts on {{}}, more than {WINDOW_WEEKS} weeks ahead: the last start date that can be "
        f"exported now is {last:%-d %B %Y}",
        day,
    )
    return (
        pl.when(pl.col("lifecycleState").is_null())
        .then(pl.lit("the placement was withdrawn: it is no longer in TCS"))
        .when(pl.col("lifecycleState") != "APPROVED")
        .then(pl.lit("the placement is a draft: it must be APPROVED"))
        .when(~is_exported_type(kind))
        .then(pl.format("placements of type '{}' do not go to ESR", kind.fill_null("(none)")))
        .when(starts.is_null())
        .then(pl.lit("the placement has no start date"))
        .when(starts < first)
        .then(too_late)
        .when(starts > last)
        .then(too_early)
    )


def is_exported_type(kind: pl.Expr) -> pl.Expr:
    """Whether placements of a type go to ESR; case and spaces do not matter."""
    exported = [name.replace(" ", "").lower() for name in EXPORTED_TYPES]
    return kind.str.replace_all(r"\s", "").str.to_lowercase().is_in(exported).fill_null(value=False)
