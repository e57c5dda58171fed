"""Which placements go to ESR, and how records follow TCS: against naive references in Python."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import NOW, TODAY
from tis_sync.esr.applicants.content import applicants
from tis_sync.esr.applicants.eligibility import EXPORTED_TYPES, READS, obstacle
from tis_sync.esr.applicants.external_records import (
    ExternalRecord,
    Ignored,
    refresh_external_records,
    store_external_records,
)
from tis_sync.esr.applicants.generate import desired_records
from tis_sync.esr.applicants.plan import SCHEMA, plan
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.records import Record, RecordOrigin, RecordState, find_records
from tis_sync.reconcile.table_plan import OLD
from tis_sync.settings.model import Settings
from tis_sync.state.database import open_state

TO_EXPORT, EXPORTED = RecordState.TO_EXPORT, RecordState.EXPORTED
INVALID, DELETED = RecordState.INVALID_DATA, RecordState.DELETED_BEFORE_EXPORT
LAYOUT = layout_of(FileType.APP, Settings())
PREFIXES = {"XYZ": "KSS"}
SCHEMAS = {read.table.name: read.schema() for read in READS}
DAYS = st.sampled_from([-1, 0, 2, 3, 4, 20, 89, 90, 91, 92, 200]).map(
    lambda n: TODAY + timedelta(days=n)
)
HARD_TEXTS = st.sampled_from(
    [None, "", " ", "m", "Female", " x ", "sw1a 1aa", "qq 12 34 56 c", "unknown", "N/A", "7000001"]
)
KINDS = st.sampled_from(
    [*EXPORTED_TYPES, "in  POST", "In post-acting up", "OOPE", "In posting", None]
)


def frames(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pl.DataFrame]:
    """TCS as it is read."""
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
    """The ids and deaneries of the records that should exist."""
    latest: dict[tuple[int, int], dict[str, Any]] = {}
    for event in sorted(events, key=lambda e: (e["eventDateTime"], e["id"])):
        latest[event["positionId"], event["positionNumber"]] = event
    expected = set()
    for row in rows:
        kind = "".join((row["placementType"] or "").split()).lower()
        if (
            row["lifecycleState"] != "APPROVED"
            or kind not in {"".join(k.split()).lower() for k in EXPORTED_TYPES}
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
            expected.add(
                (f"{row['id']}-{position}-{number}", PREFIXES.get(deanery, deanery) or None)
            )
    return expected


@given(placements, events)
def test_the_records_match_the_naive_reference(
    rows: list[dict[str, Any]], position_events: list[dict[str, Any]]
) -> None:
    tcs = frames({"Placement": rows, "PostEsrEvent": position_events, "Post": POSTS})
    records = applicants(tcs, TODAY, PREFIXES).collect()
    assert set(records.select("id", "deanery").rows()) == naive(rows, position_events)
    assert records["id"].is_unique().all()


@given(placements)
def test_a_placement_has_an_obstacle_if_and_only_if_it_is_not_eligible(
    rows: list[dict[str, Any]],
) -> None:
    all_reconciled = [
        {"id": 1, "postId": post, "positionId": post, "positionNumber": 1, "status": "RECONCILED",
         "eventDateTime": datetime(2026, 1, 1)}  # noqa: DTZ001
        for post in (1, 2, 3)
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=SCHEMAS["Placement"]).with_columns(why=obstacle(TODAY))
    free = set(frame.filter(pl.col("why").is_null(), pl.col("postId").is_in([1, 2, 3]))["id"])
    eligible = {int(key.split("-")[0]) for key, _ in naive(rows, all_reconciled)}
    assert free == eligible


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


@given(records([TO_EXPORT, INVALID], files=False), records(list(RecordState), files=True))
def test_records_follow_tcs_until_they_are_claimed_or_sent(
    desired: list[Any], existing: list[Any]
) -> None:
    no_reasons = pl.DataFrame(schema={"id": pl.String(), "why": pl.String()})
    with_file = {**SCHEMA, "file": pl.String()}
    desired_frame = pl.DataFrame(desired, schema=with_file).drop("file")
    changes = plan(desired_frame, pl.DataFrame(existing, schema=with_file), no_reasons)
    after = {row["id"]: row for row in existing}
    for row in changes.added.to_dicts():
        assert row["id"] not in after
        after[row["id"]] = row
    for row in changes.changed.to_dicts():
        assert after[row["id"]]["state"] == row[OLD + "state"]
        after[row["id"]] = row
    targets = {row["id"]: row for row in desired}
    for key, before in {row["id"]: row for row in existing}.items():
        now = after[key]
        if before["file"] or before["state"] == EXPORTED:
            assert now == before
        elif key in targets:
            assert (now["state"], now["content"], now["reason"]) == (
                targets[key]["state"], targets[key]["content"], targets[key]["reason"],
            )  # fmt: skip
        else:
            assert now["state"] == DELETED
    assert set(after) == {row["id"] for row in existing} | set(targets)
    final = pl.DataFrame([{"file": None, **row} for row in after.values()], schema=with_file)
    second = plan(desired_frame, final, no_reasons)
    assert second.added.is_empty()
    assert second.changed.is_empty()


def applicant(**values: Any) -> dict[str, Any]:
    """The record of one starter, with some values of TCS replaced."""
    contact = {"id": 1, "surname": "O'Brien", "forenames": "Siân Mary Jo", "postCode": "sw1a 1aa",
               "title": "Dr"}  # fmt: skip
    details = {"id": 1, "dateOfBirth": date(1995, 2, 3), "gender": "Female"}
    gmc: dict[str, Any] = {"id": 1, "gmcNumber": "7000001"}
    placement = {"id": 5, "traineeId": 1, "postId": 1, "dateFrom": TODAY + timedelta(days=20),
             "dateTo": TODAY + timedelta(days=200), "placementType": "In post",
             "lifecycleState": "APPROVED"}  # fmt: skip
    post = {"id": 1, "nationalPostNumber": "WES/RHM01/021/F2/003"}
    for part in (contact, details, gmc, placement, post):
        part.update({k: v for k, v in values.items() if k in _columns_of(part)})
    rows = {
        "ContactDetails": [contact], "PersonalDetails": [details], "GmcDetails": [gmc],
        "Placement": [placement], "Post": [post],
        "PostEsrEvent": [{"id": 1, "postId": 1, "positionId": 50, "positionNumber": 7,
                          "eventDateTime": datetime(2026, 1, 1), "status": "RECONCILED"}],  # noqa: DTZ001
    }  # fmt: skip
    (record,) = desired_records(frames(rows), TODAY, {}, LAYOUT).to_dicts()
    return record


def _columns_of(part: dict[str, Any]) -> set[str]:
    """The columns of the table that a row belongs to."""
    return next(set(schema) for schema in SCHEMAS.values() if set(part) <= set(schema))


def test_an_applicant_is_mapped_to_the_columns_of_the_layout() -> None:
    record = applicant(legalSurname="Byrne", maidenName="Old", gmcEndDate=None)
    values = {k: v for k, v in json.loads(record["content"]).items() if v is not None}
    assert (record["state"], record["deanery"], record["id"]) == (TO_EXPORT, "WES", "5-50-7")
    assert values == {
        "effectiveDate": "20260322", "lastName": "Byrne", "firstName": "Siân",
        "middleNames": "Mary Jo", "dob": "19950203", "positionId": "50", "positionNumber": "7",
        "title": "DR", "previousLastName": "Old", "gender": "F", "postcode": "SW1A 1AA",
        "professionalBody1": "General Medical Council", "regNumber1": "7000001",
        "projectedHireDate": "20260322", "projectedEndDate": "20260918",
    }  # fmt: skip


def test_an_invalid_record_has_every_reason() -> None:
    record = applicant(
        surname=" ", postCode="SW1A 1A", gmcNumber="12345", dateOfBirth=date(2019, 1, 1),
        dateTo=TODAY, nationalPostNumber="QQQ/1", title="x" * 31,
    )  # fmt: skip
    assert record["state"] == INVALID
    for part in (
        "lastName is missing", "postcode 'SW1A 1A' is not a UK postcode",
        "GMC number '12345' does not have seven digits", "dob 20190101 is implausible",
        "it ends (20260302) before it starts (20260322)", "post number 'QQQ/1' names no deanery",
        "is longer than 30 characters",
    ):  # fmt: skip
        assert part in record["reason"], record["reason"]


def test_every_deanery_code_is_valid() -> None:
    for code in DEANERIES:
        assert applicant(nationalPostNumber=f"{code}/1")["state"] == TO_EXPORT


def external(**values: Any) -> ExternalRecord:
    """The starter of `applicant`, as another system would send it."""
    fields: dict[str, Any] = {
        "message_id": "m1", "queue": "q", "placement_id": 5, "position_id": 50,
        "position_number": 7, "post_id": 1, "post_number": "WES/RHM01/021/F2/003",
        "projected_hire_date": TODAY + timedelta(days=20),
        "projected_end_date": TODAY + timedelta(days=200), "last_name": "O'Brien",
        "first_name": "Siân", "middle_names": "Mary Jo", "dob": date(1995, 2, 3), "title": "Dr",
        "gender": "Female", "postcode": "sw1a 1aa", "gmc_number": "7000001",
    }  # fmt: skip
    return ExternalRecord(**(fields | values))


def stored(tmp_path: Path, *records: ExternalRecord, day: date = TODAY) -> list[Record]:
    """Store records in a new state database, and return what it contains."""
    state = open_state(Settings(home=tmp_path))
    store_external_records(state, records, layout=LAYOUT, prefixes=PREFIXES, day=day, now=NOW)
    all_records = find_records(state, limit=None)
    state.close()
    return all_records


PAIRS = st.fixed_dictionaries(
    {
        "title": st.tuples(st.just("title"), HARD_TEXTS),
        "gender": st.tuples(st.just("gender"), HARD_TEXTS),
        "postCode": st.tuples(st.just("postcode"), HARD_TEXTS),
        "address1": st.tuples(st.just("address1"), HARD_TEXTS),
        "nationalInsuranceNumber": st.tuples(st.just("uk_nino"), HARD_TEXTS),
        "gmcNumber": st.tuples(st.just("gmc_number"), HARD_TEXTS),
    }
)


@given(PAIRS)
@settings(max_examples=25)
def test_an_external_record_is_mapped_like_one_from_tcs(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, tuple[str, str | None]]
) -> None:
    from_tcs = applicant(**{column: value for column, (_, value) in pairs.items()})
    record = external(**dict(pairs.values()))
    (from_message,) = stored(tmp_path_factory.mktemp("state"), record)
    assert from_message.content == json.loads(from_tcs["content"])
    assert (from_message.state, from_message.reason) == (from_tcs["state"], from_tcs["reason"])
    assert from_message.origin == RecordOrigin.MESSAGE


def test_a_message_is_stored_once_and_the_last_message_of_a_record_counts(tmp_path: Path) -> None:
    state = open_state(Settings(home=tmp_path))

    def store(*records: ExternalRecord) -> list[str]:
        return store_external_records(
            state, records, layout=LAYOUT, prefixes=PREFIXES, day=TODAY, now=NOW
        )

    first, second = external(), external(message_id="m2", last_name="Byrne")
    assert store(first, first, second) == [TO_EXPORT, Ignored.DUPLICATE, TO_EXPORT]
    (record,) = find_records(state)
    assert (record.name, record.cause) == ("Siân Byrne", "message m2")
    assert store(first) == [Ignored.DUPLICATE]
    state.close()


def test_an_external_record_that_starts_too_soon_is_deleted_with_a_reason(tmp_path: Path) -> None:
    (record,) = stored(tmp_path, external(), day=TODAY + timedelta(days=19))
    assert record.state == DELETED
    assert record.reason == (
        "it starts on 22 March 2026; the start dates that can be exported today are 24 March 2026 "
        "to 19 June 2026"
    )


def test_a_refreshed_external_record_stays_the_same_until_it_starts_too_soon(
    tmp_path: Path,
) -> None:
    (record,) = stored(tmp_path, external())
    row = {
        name: json.dumps(record.content, ensure_ascii=False, separators=(",", ":"))
        if name == "content"
        else getattr(record, name)
        for name in SCHEMA
    }
    frame = pl.DataFrame([row], schema=SCHEMA)
    assert refresh_external_records(frame, TODAY, LAYOUT).to_dicts() == frame.to_dicts()
    (later,) = refresh_external_records(frame, TODAY + timedelta(days=19), LAYOUT).to_dicts()
    assert (later["state"], later["content"]) == (DELETED, row["content"])
