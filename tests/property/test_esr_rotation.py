"""Notifications of type 1, against a naive reference; loaded once, whatever is repeated."""

from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TODAY
from tests.starters import person, post, together
from tests.world import World
from tis_sync.esr.eligible import TYPES
from tis_sync.esr.rotation import load_rotation, reads, rotation
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
    kinds = {kind.lower() for kind in TYPES}
    rows = [
        r for r in rows if r["lifecycleState"] == "APPROVED" and r["placementType"].lower() in kinds
    ]
    appearing = TODAY + timedelta(weeks=13)
    found: set[tuple[int, int | None, int | None]] = set()

    def together(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return (a["postId"], a["siteCode"]) == (b["postId"], b["siteCode"])

    for row in rows:
        current = row["dateFrom"] <= TODAY <= row["dateTo"]
        if current and row["dateFrom"] == TODAY:
            after = [o for o in rows if together(o, row) and TODAY < o["dateFrom"] <= appearing]
            after.sort(key=lambda o: (o["dateFrom"], o["id"]))
            found.add((row["postId"], row["id"], after[0]["id"] if after else None))
        if row["dateFrom"] == appearing:
            held = [o for o in rows if together(o, row) and o["dateFrom"] <= TODAY <= o["dateTo"]]
            found |= {(row["postId"], o["id"], row["id"]) for o in held} or {
                (row["postId"], None, row["id"])
            }
        if row["dateTo"] == TODAY - timedelta(days=1) and not any(
            o["postId"] == row["postId"] and o["dateTo"] >= TODAY for o in rows
        ):
            found.add((row["postId"], None, None))
    return found


@given(placements)
def test_the_notifications_are_those_that_a_plain_reading_of_the_rules_gives(
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
    made = rotation(tcs_frames, TODAY)
    said = [
        (
            int(row["deaneryPostNumber"].split("/")[1]),
            int(row["currentTraineeLastName"]) if row["currentTraineeLastName"] else None,
            int(row["nextAppointmentTraineeLastName"])
            if row["nextAppointmentTraineeLastName"]
            else None,
        )
        for row in made.to_dicts()
    ]
    assert set(said) == naive(rows)
    assert len(said) == len(set(said))
    for row in made.to_dicts():
        vacant = row["nextAppointmentTraineeLastName"] is None
        assert row["postVacantAtNextRotation"] == ("TRUE" if vacant else "FALSE")


def test_what_is_loaded_again_is_not_doubled_and_any_past_day_can_be_loaded(tcs: World) -> None:
    world = tcs
    day = TODAY - timedelta(days=30)
    place = {
        "id": 1, "traineeId": 1, "postId": 1, "siteCode": "A", "dateFrom": day,
        "dateTo": TODAY + timedelta(days=99), "placementType": "In post",
        "placementWholeTimeEquivalent": 0.55,
    }  # fmt: skip
    world.fill(together(person(1), post(1), {"Placement": [place]}))
    assert [load_rotation(world.engine, day) for _ in range(3)] == [1, 0, 0]
    assert load_rotation(world.engine, TODAY) == 0
    names = (
        "notificationTitleCode", "deaneryPostNumber", "currentTraineeFirstName",
        "currentTraineeWorkingHoursIndicator", "postVacantAtNextRotation",
    )  # fmt: skip
    assert world.rows(EsrNotification, *names) == [
        ("1", "WES/RHM01/1/F2/003", "Siân Mary", "0.6", "TRUE")
    ]
