"""Actions by API: run, dry run, approve, cancel, export; idempotent, and in the audit log."""

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from tests.running import run_night, wait_for
from tests.web.conftest import Console
from tis_sync import actions
from tis_sync.audit import Actor, Channel
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs

OWNER, INDEX = "PersonOwnerRebuildJob", "PersonElasticSearchSyncJob"


def events(call: Console, path: str) -> Iterator[tuple[str, Any]]:
    """The events of a stream, until the server ends it."""
    with httpx2.stream("GET", f"{call.url}/sync{path}", timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, line.removeprefix("data: ")


def test_a_job_is_run_with_options_and_followed_to_its_end(call: Console) -> None:
    started = call("POST", f"/api/v1/jobs/{OWNER}/runs", {"follow_ups": False})
    assert started.status == 202
    assert started.json["requested_by"] == "local"
    seen = list(events(call, f"/api/v1/runs/{started.json['id']}/events"))
    assert {name for name, _ in seen} == {"run", "line", "end"}
    assert seen[-1] == ("end", '"succeeded"')
    runs = [json.loads(data) for name, data in seen if name == "run"]
    assert {run["job"] for run in runs} == {OWNER}
    assert runs[-1]["state"] == "succeeded"
    assert runs[-1]["added"] == 100


@pytest.mark.alone
def test_a_button_starts_a_run_within_a_second(call: Console, s: Services) -> None:
    path = f"/api/v1/jobs/{OWNER}/runs"  # once before, because the first run of a process is slower
    wait_for(s, call("POST", path, {"dry_run": True}).json["id"])
    start = time.monotonic()
    run_id = call("POST", f"/api/v1/jobs/{OWNER}/runs", {"follow_ups": False}).json["id"]
    while s.history.get(run_id).started_at is None:
        assert time.monotonic() - start < 1.0
        time.sleep(0.01)
    print(f"From the request to the start of the run: {(time.monotonic() - start) * 1000:.0f} ms")
    wait_for(s, run_id)


def test_the_same_key_is_the_same_run_and_another_request_is_refused(
    call: Console, s: Services
) -> None:
    path = f"/api/v1/jobs/{OWNER}/runs"
    first = call("POST", path, {"dry_run": True}, Idempotency_Key="one")
    again = call("POST", path, {"dry_run": True}, Idempotency_Key="one")
    assert again.json["id"] == first.json["id"]
    wait_for(s, first.json["id"])
    later = call("POST", path, {"dry_run": True}, Idempotency_Key="one")
    assert (later.json["id"], later.json["state"]) == (first.json["id"], "succeeded")
    other = call("POST", path, {"dry_run": False}, Idempotency_Key="one")
    assert (other.status, "another request" in other.json["detail"]) == (400, True)
    assert call("POST", path, {"dry_run": True}).json["id"] != first.json["id"]


def test_a_job_with_an_active_run_is_not_started_twice(call: Console, s: Services) -> None:
    active = request_run(
        s,
        job_named(OWNER),
        trigger=Trigger.MANUAL,
        requested_by="test",
        options=RunOptions(),
    )
    refused = call("POST", f"/api/v1/jobs/{OWNER}/runs")
    assert refused.status == 409
    assert active.id[:8] in refused.json["detail"]
    cancelled = call("POST", f"/api/v1/runs/{active.id}/cancel")
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    assert call("POST", f"/api/v1/runs/{active.id}/cancel").status == 400


def test_a_dry_run_shows_what_would_be_written_and_writes_nothing(
    call: Console, s: Services
) -> None:
    run_id = call("POST", f"/api/v1/jobs/{OWNER}/runs", {"dry_run": True}).json["id"]
    wait_for(s, run_id)
    plan = call("GET", f"/api/v1/runs/{run_id}/plan").json
    assert plan["added"] == 100
    assert plan["sample"]["added"][0]["id"] > 0
    with s.tcs().read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tcs.PersonOwner)) == 0
    real = call("POST", f"/api/v1/jobs/{OWNER}/runs", {"follow_ups": False}).json["id"]
    assert call("GET", f"/api/v1/runs/{real}/plan").status == 400
    wait_for(s, real)


def test_a_held_plan_is_approved_and_only_while_it_is_the_last(call: Console, s: Services) -> None:
    run_night(s)
    with s.tcs().write() as connection:
        fewer = tcs.Placement.c.traineeId > 5
        connection.execute(sa.delete(tcs.Placement).where(fewer))
    trusts = "PersonPlacementEmployingBodyTrustJob"
    held = call("POST", f"/api/v1/jobs/{trusts}/runs").json["id"]
    wait_for(s, held)
    if s.history.get(held).state != "held":  # the guard lets a few rows of a small table go
        pytest.fail(f"not held: {s.history.get(held)}")
    assert call("GET", "/api/v1/alarms").json[0]["kind"] == "held"
    approved = call("POST", f"/api/v1/runs/{held}/approve")
    assert approved.status == 202
    family = wait_for(s, approved.json["id"])
    assert {run.state for run in family} <= {"succeeded", "held"}
    assert family[0].removed
    again = call("POST", f"/api/v1/runs/{held}/approve")
    assert (again.status, "not the last" in again.json["detail"]) == (400, True)
    assert call("POST", f"/api/v1/runs/{approved.json['id']}/approve").status == 400


def test_the_night_is_started_once(call: Console, s: Services) -> None:
    first = call("POST", "/api/v1/night", Idempotency_Key="tonight")
    second = call("POST", "/api/v1/night", Idempotency_Key="tonight")
    assert (first.status, second.json["id"]) == (202, first.json["id"])
    assert {run.state for run in wait_for(s, first.json["id"])} == {"succeeded"}
    family = call("GET", f"/api/v1/runs/{first.json['id']}/family").json
    assert len(family) == len(JOBS) + 1


def test_the_pages_of_a_list_miss_nothing(call: Console, s: Services) -> None:
    run_night(s)
    found, after = [], ""
    while True:
        page = call("GET", f"/api/v1/runs?limit=3{after}").json
        found += [run["id"] for run in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == [run.id for run in s.history.recent(100)]
    assert len(set(found)) == len(JOBS) + 1


def test_a_job_is_paused_and_unpaused(call: Console) -> None:
    assert call("POST", f"/api/v1/jobs/{OWNER}/pause").json["paused"] is True
    assert call("GET", f"/api/v1/jobs/{OWNER}").json["paused"] is True
    assert call("POST", f"/api/v1/jobs/{OWNER}/unpause").json["paused"] is False


def test_deaneries_are_exported_once_however_often_the_request_is_sent(
    call: Console, s: Services
) -> None:
    request = {"deaneries": ["wes", "LDN"], "type": "app"}
    first = call("POST", "/api/v1/esr/exports", request, Idempotency_Key="k").json
    again = call("POST", "/api/v1/esr/exports", request, Idempotency_Key="k").json
    assert [c["id"] for c in again] == [c["id"] for c in first]
    deadline = time.monotonic() + 60
    while len(done := call("GET", "/api/v1/esr/commands?state=done").json["items"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {command["deanery"] for command in done} == {"WES", "LDN"}
    files = call("GET", "/api/v1/esr/files").json["items"]
    assert {file["name"] for file in files} == {command["file"] for command in done}
    content = call("GET", f"/api/v1/esr/files/{files[0]['name']}/content").json
    assert len(content["records"]) == files[0]["records"]
    assert content["header"]["fileName"] == files[0]["name"]
    record = call("GET", "/api/v1/esr/records?limit=1").json["items"][0]
    explanation = call("GET", f"/api/v1/esr/explain/{record['placement_id']}").json
    assert record["id"] in {found["id"] for found in explanation["records"]}
    for other in ({"new": True}, {"type": "notification"}, {"day": "2026-03-01"}):
        refused = call("POST", "/api/v1/esr/exports", request | other, Idempotency_Key="k")
        assert (refused.status, "another request" in refused.json["detail"]) == (400, True)
    future = call("POST", "/api/v1/esr/exports", {"day": "2999-01-01"})
    assert (future.status, "future" in future.json["detail"]) == (400, True)


OTHER_DAY = "2026-03-01"  # yesterday, and within the limit


@pytest.mark.parametrize("day", [0, 20260301, "20260301", "0020-11-25", "2026-03-01T00:00:00"])
def test_a_day_of_another_form_is_refused(call: Console, day: object) -> None:
    assert call("POST", "/api/v1/esr/exports", {"day": day}).status == 422
    for path in ("/api/v1/esr/files", "/api/v1/esr/exports/preview", "/esr"):
        assert call("GET", f"{path}?day={day}").status == 422, path
    form = {"deanery": "WES", "day": str(day)}
    assert call("POST", "/esr/export", form=form).status == 422
    assert call("GET", "/api/v1/esr/commands").json["items"] == []


def test_a_day_long_ago_is_refused(call: Console) -> None:
    form = {"deanery": "WES", "day": "1970-01-01", "previewed": "0"}
    preview = call("GET", "/api/v1/esr/exports/preview?day=1970-01-01")
    for answer in (call("POST", "/api/v1/esr/exports", {"day": "1970-01-01", "previewed": 0}),
                   call("POST", "/esr/export", form=form), preview):  # fmt: skip
        assert (answer.status, "too long ago" in answer.text) == (400, True)
    assert call("GET", "/api/v1/esr/commands").json["items"] == []


def test_the_api_exports_for_another_day_only_with_the_number_in_the_preview(
    call: Console, s: Services
) -> None:
    actions.refresh_records(s, Actor("test", Channel.LOCAL))
    request = {"deaneries": ["WES", "LDN"], "day": OTHER_DAY}
    path = f"/api/v1/esr/exports/preview?deanery=WES&deanery=LDN&day={OTHER_DAY}"
    preview = call("GET", path).json
    assert preview["records"] == sum(file["records"] for file in preview["files"]) > 0
    assert [(f["deanery"], f["file"]) for f in preview["files"]] == [("WES", None), ("LDN", None)]
    for wrong in ({}, {"previewed": preview["records"] + 1}):
        refused = call("POST", "/api/v1/esr/exports", request | wrong)
        assert refused.status == 409
        assert f"exports {preview['records']} records" in refused.json["detail"]
    assert call("GET", "/api/v1/esr/commands").json["items"] == []
    confirmed = request | {"previewed": preview["records"]}
    assert call("POST", "/api/v1/esr/exports", confirmed).status == 202


def test_a_page_exports_for_another_day_only_after_its_preview(call: Console, s: Services) -> None:
    actions.refresh_records(s, Actor("test", Channel.LOCAL))
    form = {"deanery": "all", "type": "app", "day": OTHER_DAY, "key": "k"}
    preview = call("POST", "/esr/export", form=form)
    assert (preview.status, "Export for 1 March 2026?" in preview.text) == (200, True)
    button = dict(re.findall(r'name="(\w+)" value="([^"]*)"', preview.text))
    assert button.items() >= form.items()
    assert int(button["previewed"]) > 0
    assert call("GET", "/api/v1/esr/commands").json["items"] == []
    changed = call("POST", "/esr/export", form=button | {"previewed": "1"})
    assert (changed.status, "number of records has changed" in changed.text) == (200, True)
    assert call("GET", "/api/v1/esr/commands").json["items"] == []
    assert call("POST", "/esr/export", form=button).status == 303
    assert len(call("GET", "/api/v1/esr/commands").json["items"]) == 13
    today = call("POST", "/esr/export", form={"deanery": "WES", "day": "2026-03-02"})
    assert today.status == 303


def test_search_finds_people_and_explains_why_somebody_is_not_in_search(
    call: Console, s: Services
) -> None:
    run_night(s)
    added = datetime(2026, 3, 1)  # noqa: DTZ001  as TCS has it
    with s.tcs().write() as connection:
        connection.execute(sa.delete(tcs.ContactDetails).where(tcs.ContactDetails.c.id == 1))
        for table, values in (
            (tcs.Person, {"status": "CURRENT", "role": "DR in Training"}),
            (tcs.ContactDetails, {"surname": "Quux", "forenames": "Zo\u00e9"}),
        ):
            stamps = {name: added for name in ("addedDate", "amendedDate") if name in table.c}
            connection.execute(sa.insert(table).values(id=900001, **values, **stamps))
    (new,) = call("GET", "/api/v1/search/persons/diagnosis?text=Quux").json
    assert (new["id"], new["name"], new["in_search"]) == (900001, "Zo\u00e9 Quux", False)
    assert "was added after the last run" in new["lines"][-1]
    wait_for(s, call("POST", f"/api/v1/jobs/{INDEX}/runs", {}).json["id"])
    (indexed,) = call("GET", "/api/v1/search/persons/diagnosis?text=900001").json
    assert indexed["documents"] == ["900001"]
    hits = call("GET", "/api/v1/search/persons?text=zoe%20qu").json
    assert [hit["personId"] for hit in hits["documents"]] == [900001]
    (nameless,) = call("GET", "/api/v1/search/persons/diagnosis?text=1").json
    assert not nameless["in_search"]
    assert "no contact details" in nameless["lines"][-1]
    (post,) = call("GET", "/api/v1/search/posts/diagnosis?text=1").json
    assert post["in_search"]
    assert call("GET", "/api/v1/search/persons/diagnosis?text=Nobody").json == []


def test_everything_that_changes_something_is_in_the_audit_log(call: Console, s: Services) -> None:
    run_id = call("POST", f"/api/v1/jobs/{OWNER}/runs", {"dry_run": True}).json["id"]
    wait_for(s, run_id)
    call("POST", f"/api/v1/jobs/{OWNER}/runs", {"rebuild": True, "date": "yesterday"})
    call("PUT", "/api/job/personOwnerRebuildJob")
    for run in s.history.recent():
        wait_for(s, run.id)
    entries = call("GET", "/api/v1/audit").json["items"]
    assert [(e["actor"], e["action"], e["subject"]) for e in entries] == [
        ("local", "run", OWNER)
    ] * 3
    assert [e["outcome"] == "done" for e in entries] == [True, False, True]
    assert "yesterday" in entries[1]["detail"]
    assert '"options": "--dry-run"' in entries[2]["detail"]


REFUSED: list[tuple[str, dict[str, object], int]] = [
    ("/api/v1/jobs/nosuchjob/runs", {}, 404),
    (f"/api/v1/jobs/{OWNER}/runs", {"surprise": 1}, 422),
    (f"/api/v1/jobs/{OWNER}/runs", {"date": "yesterday"}, 400),
    (f"/api/v1/jobs/{OWNER}/runs", {"approve": True}, 400),
    ("/api/v1/jobs/nosuchjob/pause", {}, 404),
    ("/api/v1/jobs/nosuchjob/unpause", {}, 404),
    ("/api/v1/runs/nosuchrun/cancel", {}, 404),
    ("/api/v1/runs/nosuchrun/resume", {}, 404),
    ("/api/v1/runs/nosuchrun/approve", {}, 404),
    ("/api/v1/esr/exports", {"deaneries": ["XYZ"]}, 400),
    ("/api/v1/esr/exports", {"deaneries": ["WES"], "type": "x"}, 400),
    ("/api/v1/esr/exports", {"deaneries": ["WES"], "day": "tomorrow"}, 422),
    ("/api/v1/esr/exports", {"deaneries": ["WES"], "day": "9999-01-01"}, 400),
    ("/api/v1/esr/exports", {"deaneries": ["WES"], "day": OTHER_DAY}, 409),
    ("/api/v1/esr/commands/nosuch/retry", {}, 404),
    ("/api/v1/esr/dead-letters/nosuch/discard", {}, 404),
    ("/api/v1/esr/dead-letters/nosuch/retry", {}, 404),
]


@pytest.mark.parametrize(("path", "body", "status"), REFUSED)
def test_every_change_that_is_refused_is_in_the_audit_log(
    call: Console, path: str, body: dict[str, object], status: int
) -> None:
    before = len(call("GET", "/api/v1/audit").json["items"])
    assert call("POST", path, body).status == status
    entries = call("GET", "/api/v1/audit").json["items"]
    assert len(entries) == before + 1
    assert entries[0]["outcome"] != "done"
    assert entries[0]["actor"] == "local"


@pytest.mark.parametrize(
    "form",
    [
        {"deanery": "XYZ"},
        {"deanery": "XYZ", "day": OTHER_DAY},
        {"deanery": "WES", "type": "x", "day": OTHER_DAY},
        {"deanery": "WES", "day": "1970-01-01"},
        {"deanery": "WES", "day": "1970-01-01", "previewed": "0"},
    ],
)
def test_an_export_that_a_page_refuses_is_in_the_audit_log(
    call: Console, form: dict[str, str]
) -> None:
    assert call("POST", "/esr/export", form=form).status == 400
    (entry,) = call("GET", "/api/v1/audit").json["items"]
    assert (entry["action"], entry["actor"]) == ("export", "local")
    assert entry["subject"] == f"{form.get('type', 'app')} {form['deanery']}"
    assert re.search("Unknown|too long ago", entry["outcome"])


@pytest.mark.parametrize("header", [{"Sec_Fetch_Site": "cross-site"}, {"Via": "1.1 a-proxy"}])
def test_a_refused_request_of_another_site_or_machine_is_in_the_log(
    call: Console, caplog: pytest.LogCaptureFixture, header: dict[str, str]
) -> None:
    answer = call("POST", "/api/v1/night", {}, **header)
    assert answer.status == 403
    (line,) = [r.msg for r in caplog.records if r.name == "tis_sync.audit"]
    assert isinstance(line, dict)
    assert (line["event"], line["subject"]) == ("refused", "/sync/api/v1/night")


def test_settings_are_shown_without_secrets(call: Console, s: Services) -> None:
    settings = call("GET", "/api/v1/settings").json
    assert settings["TIS_SYNC_TCS_URL"] == "set (not shown)"
    assert settings["TIS_SYNC_GUARD_SHARE"] == "0.1"
    assert s.settings.tcs() not in json.dumps(settings)


@pytest.mark.alone
def test_two_hundred_viewers_follow_one_run(call: Console, s: Services) -> None:
    night = call("POST", "/api/v1/night").json["id"]
    ended: list[str] = []

    def follow() -> None:
        for name, data in events(call, f"/api/v1/runs/{night}/events"):
            if name == "end":
                ended.append(data)

    threads = [threading.Thread(target=follow) for _ in range(200)]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    assert call("GET", "/health/live").status == 200
    assert time.monotonic() - start < 5
    for thread in threads:
        thread.join(120)
    assert ended == ['"succeeded"'] * 200
