"""Vacancy notifications, against a naive reference; a repeated load writes nothing twice."""

from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TODAY
from tests.starters import combined, person, post
from tests.world import World
from tis_sync.esr.applicants.eligibility import EXPORTED_TYPES
from tis_sync.esr.notifications.vacancy_notifications import (
    load_day,
    reads,
    vacancy_notifications,
)
from tis_sync.tcs.tables import EsrNotification

SCHEMAS = {read.table.name: read.schema() for read in reads(TODAY)}
STARTS = st.sampled_from([-200, -30, -1, 0, 1, 20, 90, 91, 92])
LENGTHS = st.sampled_from([0, 29, 30, 60, 199, 400])

placements = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["A", "B", None]), STARTS, LENGTHS,
        st.sampled_from(["In post", "in POST", "OOPE"]), st.sampled_from(["APPROVED", "DRAFT"]),
    ),
    max_size=7,
).map(
    lambda rows: [
        {
            "id": n, "traineeId": n, "postId": post_id, "siteCode": site,
            "dateFrom": TODAY + timedelta(days=start),
            "dateTo": TODAY + timedelta(days=start + length), "placementType": kind,
            "lifecycleState": state, "placementWholeTimeEquivalent": 0.6,
        }
        for n, (post_id, site, start, length, kind, state) in enumerate(rows, 1)
    ]
)  # fmt: skip


def naive(rows: list[dict[str, Any]]) -> set[tuple[int, int | None, int | None]]:
    """Post, current and next placement of each notification."""
    kinds = {kind.lower() for kind in EXPORTED_TYPES}
    rows = [
        r for r in rows if r["lifecycleState"] == "APPROVED" and r["placementType"].lower() in kinds
    ]
    window_end = TODAY + timedelta(weeks=13)
    expected: set[tuple[int, int | None, int | None]] = set()

    def is_pair(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return (a["postId"], a["siteCode"]) == (b["postId"], b["siteCode"])

    for row in rows:
        is_current = row["dateFrom"] <= TODAY <= row["dateTo"]
        if is_current and row["dateFrom"] == TODAY:
            after = [o for o in rows if is_pair(o, row) and TODAY < o["dateFrom"] <= window_end]
            after.sort(key=lambda o: (o["dateFrom"], o["id"]))
            expected.add((row["postId"], row["id"], after[0]["id"] if after else None))
        if row["dateFrom"] == window_end:
            current_ones = [
                o for o in rows if is_pair(o, row) and o["dateFrom"] <= TODAY <= o["dateTo"]
            ]
            expected |= {(row["postId"], o["id"], row["id"]) for o in current_ones} or {
                (row["postId"], None, row["id"])
            }
        if row["dateTo"] == TODAY - timedelta(days=1) and not any(
            o["postId"] == row["postId"] and o["dateTo"] >= TODAY for o in rows
        ):
            expected.add((row["postId"], None, None))
    return expected


@given(placements)
def test_the_notifications_match_the_naive_reference(
    rows: list[dict[str, Any]],
) -> None:
    ids = sorted({row["id"] for row in rows})
    given_rows: dict[str, list[dict[str, Any]]] = {
        "Placement": rows,
        "ContactDetails": [{"id": n, "surname": f"{n}"} for n in ids],
        "Post": [{"id": n, "nationalPostNumber": f"WES/{n}"} for n in (1, 2, 3)],
    }
    tcs_frames = {
        name: pl.DataFrame(given_rows.get(name, []), schema=schema)
        for name, schema in SCHEMAS.items()
    }
    notifications = vacancy_notifications(tcs_frames, TODAY).to_dicts()
    pairs = [
        (
            int(row["deaneryPostNumber"].split("/")[1]),
            int(row["currentTraineeLastName"]) if row["currentTraineeLastName"] else None,
            int(row["nextAppointmentTraineeLastName"])
            if row["nextAppointmentTraineeLastName"]
            else None,
        )
        for row in notifications
    ]
    assert set(pairs) == naive(rows)
    assert len(pairs) == len(set(pairs))
    for row in notifications:
        vacant = row["nextAppointmentTraineeLastName"] is None
        assert row["postVacantAtNextRotation"] == ("TRUE" if vacant else "FALSE")


def test_a_repeated_load_writes_nothing_twice_and_any_past_day_can_be_loaded(tcs: World) -> None:
    day = TODAY - timedelta(days=30)
    placement = {
        "id": 1, "traineeId": 1, "postId": 1, "siteCode": "A", "dateFrom": day,
        "dateTo": TODAY + timedelta(days=99), "placementType": "In post",
        "placementWholeTimeEquivalent": 0.55,
    }  # fmt: skip
    tcs.fill(combined(person(1), post(1), {"Placement": [placement]}))
    assert [load_day(tcs.database, day) for _ in range(3)] == [1, 0, 0]
    assert load_day(tcs.database, TODAY) == 0
    names = (
        "notificationTitleCode", "deaneryPostNumber", "currentTraineeFirstName",
        "currentTraineeWorkingHoursIndicator", "postVacantAtNextRotation",
    )  # fmt: skip
    assert tcs.rows(EsrNotification, *names) == [
        ("1", "WES/RHM01/1/F2/003", "Siân Mary", "0.6", "TRUE")
    ]
