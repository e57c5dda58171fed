"""S9, 2021-06-01: 17,000 trainees were missing, because a text was compared with regard to case.

MySQL compares codes and text keys without regard to case and to blanks at the end, so TCS contains
them in many spellings. They are the same for us too, in TCS as in SQLite, in joins, in conditions
and in what is written.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import TODAY
from tests.world import MOMENT, World
from tis_sync.esr.applicants.eligibility import READS, positions
from tis_sync.esr.applicants.too_late import late_reads
from tis_sync.esr.notifications.vacancy_notifications import load_day
from tis_sync.jobs.base import AsOf
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.jobs.post_index import POST_INDEX
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.source import Source

pytestmark = pytest.mark.servers
DAY = timedelta(days=1)
LONG = {"programmeStartDate": TODAY - 90 * DAY, "programmeEndDate": TODAY + 90 * DAY}
SPELLINGS = ["{}", "{} ", "{}   "]


@pytest.mark.parametrize("blanks", SPELLINGS)
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_memberships_are_found_whatever_the_case_of_their_key(
    tcs: World, blanks: str, change: Callable[[str], str]
) -> None:
    key = "9F2C7A1e-0000-4000-8000-abCD"
    tcs.fill(
        {
            "Person": [{"id": 1}],
            "ContactDetails": [{"id": 1, "surname": "Byrne"}],
            "Programme": [{"id": 5, "programmeName": "GP"}],
            "ProgrammeMembership": [{"uuid": key, "personId": 1, "programmeId": 5} | LONG],
            "CurriculumMembership": [
                {"id": 3, "programmeMembershipUuid": blanks.format(change(key))}
            ],
        }
    )
    views, _ = tcs.views(PERSON_INDEX, AsOf.on(TODAY))
    (memberships,) = views["programmeMemberships"].to_list()
    assert [membership["programmeName"] for membership in memberships] == ["GP"]


def test_codes_are_the_same_in_any_spelling(tcs: World) -> None:
    placed = {"traineeId": 1, "postId": 2, "dateFrom": TODAY - DAY, "dateTo": TODAY + DAY}
    tcs.fill(
        {
            "Person": [{"id": 1, "status": "current "}],
            "ContactDetails": [{"id": 1, "surname": "Byrne"}],
            "Post": [{"id": 2, "fundingStatus": "Current"}],
            "Placement": [{"id": 3, **placed}],
            "PlacementSpecialty": [
                {"placementId": 3, "specialtyId": 4, "placementSpecialtyType": "Primary "}
            ],
            "Specialty": [{"id": 4, "name": "Surgery", "specialtyCode": "S"}],
            "PostSite": [{"id": 1, "postId": 2, "siteId": 11, "postSiteType": "primary"}],
            "PostGrade": [{"id": 1, "postId": 2, "gradeId": 12, "postGradeType": "Approved "}],
            "PostSpecialty": [
                {"id": 1, "postId": 2, "specialtyId": 4, "postSpecialtyType": "PRIMARY  "}
            ],
        }
    )
    persons, _ = tcs.views(PERSON_INDEX, AsOf.on(TODAY))
    assert persons.select("status", "specialty").rows() == [("CURRENT", "Surgery")]
    posts, _ = tcs.views(POST_INDEX, AsOf.on(TODAY))
    columns = ("primarySiteId", "approvedGradeId", "primarySpecialtyName", "status")
    assert posts.select(columns).rows() == [(11, 12, "Surgery", "CURRENT")]


def test_a_status_in_another_spelling_is_neither_written_again_nor_in_the_way(tcs: World) -> None:
    """For MySQL they are equal: writing them would change nothing that anybody can see."""
    ended = {"programmeStartDate": TODAY - 90 * DAY, "programmeEndDate": TODAY - DAY}
    over = {"startDate": TODAY - 90 * DAY, "endDate": TODAY - DAY}
    tcs.fill(
        {
            "Person": [{"id": 1, "status": "current "}, {"id": 2, "status": "Current"}],
            "ProgrammeMembership": [
                {"uuid": "a", "personId": 1, "programmeId": 5}
                | LONG
                | {"programmeStartDate": TODAY},
                {"uuid": "b", "personId": 2, "programmeId": 5} | ended,
            ],
            "Post": [{"id": 3, "fundingStatus": "Inactive"}, {"id": 4, "fundingStatus": "current"}],
            "PostFunding": [{"id": n, "postId": n} | over for n in (3, 4)],
        }
    )
    for job in (PERSON_RECORD_STATUS, POST_FUNDING_STATUS):
        (plan,) = tcs.settle(job, AsOf.on(TODAY))
        assert plan.changed.height == 1
        assert all(plan.is_empty for plan in tcs.settle(job, AsOf.on(TODAY)))
    assert tcs.rows(t.Person, "id", "status") == [(1, "current "), (2, "INACTIVE")]
    assert tcs.rows(t.Post, "id", "fundingStatus") == [(3, "Inactive"), (4, "INACTIVE")]


def test_the_export_finds_placements_and_positions_in_any_spelling(
    tcs: World, tmp_path: Path
) -> None:
    start = TODAY + 30 * DAY
    tcs.fill(
        {
            "Post": [{"id": 2, "nationalPostNumber": "WES/1", "fundingStatus": "CURRENT"}],
            "Placement": [
                {"id": 3, "traineeId": 1, "postId": 2, "dateFrom": start, "dateTo": start + DAY,
                 "placementType": "In Post"},
                {"id": 4, "traineeId": 1, "postId": 2, "dateFrom": TODAY, "dateTo": start - DAY,
                 "placementType": "in post", "siteCode": "rf4 "},
                {"id": 5, "traineeId": 1, "postId": 2, "dateFrom": start, "dateTo": start + DAY,
                 "placementType": "In Post", "siteCode": "RF4"},
            ],
            "PostEsrEvent": [
                {"id": 1, "postId": 2, "eventDateTime": MOMENT, "positionNumber": 9,
                 "positionId": 8, "status": "Reconciled "},
            ],
        }
    )  # fmt: skip
    if tcs.database.dialect == "sqlite":  # in MySQL the column is an ENUM
        tcs.execute("UPDATE Placement SET lifecycleState = 'Approved '")
    source = Source(tcs.database, TODAY, tmp_path)
    frames = source.load(READS, ALL_KEYS).frames
    assert sorted(frames["Placement"]["id"]) == [3, 5]
    assert frames["Placement"]["lifecycleState"].unique().to_list() == ["APPROVED"]
    assert positions(frames, {}).select("positionId", "deanery").collect().rows() == [(8, "WES")]
    assert source.load(late_reads(TODAY), ALL_KEYS).frames["Placement"]["id"].to_list() == [4]
    assert load_day(tcs.database, TODAY) > 0
    paired = pl.DataFrame(
        tcs.rows(
            t.EsrNotification, "postVacantAtNextRotation", "nextAppointmentProjectedStartDate"
        ),
        orient="row",
    )
    assert paired.rows() == [("FALSE", start)]
