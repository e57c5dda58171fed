"""Which placements go to ESR, and how records move: against naive references in plain Python."""

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TODAY
from tis_sync.esr.deaneries import APP, DEANERIES
from tis_sync.esr.eligible import READS, TYPES, applicants, obstacle
from tis_sync.esr.generate import desired
from tis_sync.esr.plan import DELETED, EXPORTED, INVALID, SCHEMA, STATES, TO_EXPORT, plan
from tis_sync.esr.sources import layout_of
from tis_sync.reconcile.plan import OLD
from tis_sync.settings import Settings

LAYOUT = layout_of(APP, Settings())
PREFIXES = {"XYZ": "KSS"}
SCHEMAS = {read.table.name: read.schema() for read in READS}
DAYS = st.sampled_from([-1, 0, 2, 3, 4, 20, 89, 90, 91, 92, 200]).map(
    lambda n: TODAY + timedelta(days=n)
)
KINDS = st.sampled_from([*TYPES, "in  POST", "In post-acting up", "OOPE", "In posting", None])


def frames(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pl.DataFrame]:
    """TCS as it would be read."""
    return {
        name: pl.DataFrame(rows.get(name, []), schema=schema) for name, schema in SCHEMAS.items()
    }


placements = st.lists(
    st.fixed_dictionaries(
        {
            "traineeId": st.integers(1, 3),
            "postId": st.integers(1, 4) | st.none(),
            "dateFrom": DAYS | st.none(),
            "dateTo": st.just(TODAY + timedelta(days=300)),
            "placementType": KINDS,
            "lifecycleState": st.sampled_from(["APPROVED", "APPROVED", "DRAFT"]),
        }
    ),
    max_size=6,
).map(lambda rows: [{"id": n, **row} for n, row in enumerate(rows, 1)])
events = st.lists(
    st.fixed_dictionaries(
        {
            "postId": st.integers(1, 4),
            "positionId": st.integers(100, 103),
            "positionNumber": st.integers(7, 8),
            "eventDateTime": st.integers(1, 3).map(lambda d: datetime(2026, 1, d)),  # noqa: DTZ001
            "status": st.sampled_from(["RECONCILED", "RECONCILED", "DELETED"]),
        }
    ),
    max_size=8,
).map(lambda rows: [{"id": n, **row} for n, row in enumerate(rows, 1)])
POSTS: list[dict[str, Any]] = [
    {"id": 1, "nationalPostNumber": "WES/RHM01/021/F2/003"},
    {"id": 2, "nationalPostNumber": "xyz/A/1"},
    {"id": 3, "nationalPostNumber": None},
]


def naive(rows: list[dict[str, Any]], events: list[dict[str, Any]]) -> set[tuple[str, str | None]]:
    """The ids and deaneries of the records that should be."""
    latest: dict[tuple[int, int], dict[str, Any]] = {}
    for event in sorted(events, key=lambda e: (e["eventDateTime"], e["id"])):
        latest[event["positionId"], event["positionNumber"]] = event
    found = set()
    for row in rows:
        kind = "".join((row["placementType"] or "").split()).lower()
        if (
            row["lifecycleState"] != "APPROVED"
            or kind not in {"".join(k.split()).lower() for k in TYPES}
            or row["dateFrom"] is None
            or not TODAY + timedelta(days=2) < row["dateFrom"] < TODAY + timedelta(weeks=13)
        ):
            continue
        for (position, number), event in latest.items():
            post = next((p for p in POSTS if p["id"] == row["postId"]), None)
            if post is None or event["postId"] != post["id"] or event["status"] == "DELETED":
                continue
            text = post["nationalPostNumber"]
            deanery = text.split("/")[0].upper() if text else ""
            found.add((f"{row['id']}-{position}-{number}", PREFIXES.get(deanery, deanery) or None))
    return found


@given(placements, events)
def test_the_records_are_those_that_a_plain_reading_of_the_rules_gives(
    rows: list[dict[str, Any]], happened: list[dict[str, Any]]
) -> None:
    tcs = frames({"Placement": rows, "PostEsrEvent": happened, "Post": POSTS})
    made = applicants(tcs, TODAY, PREFIXES).collect()
    assert set(made.select("id", "deanery").rows()) == naive(rows, happened)
    assert made["id"].is_unique().all()


@given(placements)
def test_a_placement_has_an_obstacle_exactly_where_it_is_not_eligible(
    rows: list[dict[str, Any]],
) -> None:
    all_known = [
        {"id": 1, "postId": post, "positionId": post, "positionNumber": 1, "status": "RECONCILED",
         "eventDateTime": datetime(2026, 1, 1)}  # noqa: DTZ001
        for post in (1, 2, 3)
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=SCHEMAS["Placement"]).with_columns(why=obstacle(TODAY))
    free = set(frame.filter(pl.col("why").is_null(), pl.col("postId").is_in([1, 2, 3]))["id"])
    wanted = {int(key.split("-")[0]) for key, _ in naive(rows, all_known)}
    assert free == wanted


def record(number: int, state: str, reason: str | None, file: str | None, text: str) -> Any:
    return {
        "id": f"{number}-1-1", "placement_id": number, "position_id": 1, "position_number": 1,
        "post_id": 1, "post_number": "WES/1", "deanery": "WES", "start": TODAY, "content": text,
        "state": state, "reason": reason, "file": file,
    }  # fmt: skip


def records(states: list[str], *, files: bool) -> st.SearchStrategy[list[Any]]:
    one = st.tuples(
        st.integers(1, 6),
        st.sampled_from(states),
        st.sampled_from(["a", "b"]),
        st.booleans() if files else st.just(value=False),
    ).map(
        lambda r: record(
            r[0], r[1], f"because {r[2]}" if r[1] in {INVALID, DELETED} else None,
            "F" if r[3] and r[1] in {TO_EXPORT, EXPORTED} else None, r[2],
        )
    )  # fmt: skip
    return st.lists(one, max_size=6, unique_by=lambda r: r["id"])


@given(records([TO_EXPORT, INVALID], files=False), records(list(STATES), files=True))
def test_records_follow_tcs_until_they_are_claimed_or_sent(
    wanted: list[Any], there: list[Any]
) -> None:
    new = pl.DataFrame(wanted, schema={**SCHEMA, "file": pl.String()}).drop("file")
    old = pl.DataFrame(there, schema={**SCHEMA, "file": pl.String()})
    made = plan(new, old, pl.DataFrame(schema={"id": pl.String(), "why": pl.String()}))
    after = {row["id"]: row for row in there}
    for row in made.added.to_dicts():
        assert row["id"] not in after
        after[row["id"]] = row
    for row in made.changed.to_dicts():
        assert after[row["id"]]["state"] == row[OLD + "state"]
        after[row["id"]] = row
    targets = {row["id"]: row for row in wanted}
    for key, was in {row["id"]: row for row in there}.items():
        now = after[key]
        if was["file"] or was["state"] == EXPORTED:
            assert now == was
        elif key in targets:
            assert (now["state"], now["content"], now["reason"]) == (
                targets[key]["state"], targets[key]["content"], targets[key]["reason"],
            )  # fmt: skip
        else:
            assert now["state"] == DELETED
    assert set(after) == {row["id"] for row in there} | set(targets)
    again = plan(
        new,
        pl.DataFrame([{"file": None, **row} for row in after.values()],
                     schema={**SCHEMA, "file": pl.String()}),
        pl.DataFrame(schema={"id": pl.String(), "why": pl.String()}),
    )  # fmt: skip
    assert again.added.is_empty()
    assert again.changed.is_empty()


def applicant(**values: Any) -> dict[str, Any]:
    """What is generated of one starter, with some values of TCS changed."""
    contact = {"id": 1, "surname": "O'Brien", "forenames": "Siân Mary Jo", "postCode": "sw1a 1aa",
               "title": "Dr"}  # fmt: skip
    details = {"id": 1, "dateOfBirth": date(1995, 2, 3), "gender": "Female"}
    gmc: dict[str, Any] = {"id": 1, "gmcNumber": "7000001"}
    place = {"id": 5, "traineeId": 1, "postId": 1, "dateFrom": TODAY + timedelta(days=20),
             "dateTo": TODAY + timedelta(days=200), "placementType": "In post",
             "lifecycleState": "APPROVED"}  # fmt: skip
    post = {"id": 1, "nationalPostNumber": "WES/RHM01/021/F2/003"}
    for part in (contact, details, gmc, place, post):
        known = {name for schema in SCHEMAS.values() for name in schema}
        part.update({k: v for k, v in values.items() if k in known and k in _columns_of(part)})
    rows = {
        "ContactDetails": [contact], "PersonalDetails": [details], "GmcDetails": [gmc],
        "Placement": [place], "Post": [post],
        "PostEsrEvent": [{"id": 1, "postId": 1, "positionId": 50, "positionNumber": 7,
                          "eventDateTime": datetime(2026, 1, 1), "status": "RECONCILED"}],  # noqa: DTZ001
    }  # fmt: skip
    (made,) = desired(frames(rows), TODAY, {}, LAYOUT).to_dicts()
    return made


def _columns_of(part: dict[str, Any]) -> set[str]:
    """The columns of the table that a row belongs to."""
    return next(set(schema) for schema in SCHEMAS.values() if set(part) <= set(schema))


def test_what_esr_is_told_of_an_applicant() -> None:
    import json

    made = applicant(legalSurname="Byrne", maidenName="Old", gmcEndDate=None)
    said = {k: v for k, v in json.loads(made["content"]).items() if v is not None}
    assert (made["state"], made["deanery"], made["id"]) == (TO_EXPORT, "WES", "5-50-7")
    assert said == {
        "effectiveDate": "20260322", "lastName": "Byrne", "firstName": "Siân",
        "middleNames": "Mary Jo", "dob": "19950203", "positionId": "50", "positionNumber": "7",
        "title": "DR", "previousLastName": "Old", "gender": "F", "postcode": "SW1A 1AA",
        "professionalBody1": "General Medical Council", "regNumber1": "7000001",
        "projectedHireDate": "20260322", "projectedEndDate": "20260918",
    }  # fmt: skip


def test_invalid_data_is_told_with_every_reason() -> None:
    made = applicant(
        surname=" ", postCode="SW1A 1A", gmcNumber="12345", dateOfBirth=date(2019, 1, 1),
        dateTo=TODAY, nationalPostNumber="QQQ/1", title="x" * 31,
    )  # fmt: skip
    assert made["state"] == INVALID
    for part in (
        "lastName is missing", "postcode 'SW1A 1A' is no UK postcode",
        "GMC number '12345' is not seven digits", "dob 20190101 cannot be right",
        "it ends (20260302) before it starts (20260322)", "post number 'QQQ/1' names no deanery",
        "is longer than 30",
    ):  # fmt: skip
        assert part in made["reason"], made["reason"]


def test_every_deanery_code_is_one() -> None:
    for code in DEANERIES:
        assert applicant(nationalPostNumber=f"{code}/1")["state"] == TO_EXPORT
