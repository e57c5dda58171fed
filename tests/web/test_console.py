"""The Java service's calls, the API, errors as problems, and access from this machine only."""

import logging
import os
import signal
from copy import copy
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from tests.cli.conftest import Program, program
from tests.conftest import NOW, ON_THE_DAY
from tests.destinations import free_port
from tests.running import run_job, wait_for
from tests.web.conftest import Console, console, console_with, serving
from tests.world import World
from tis_sync import audit, logs
from tis_sync.alarms.catalogue import DRIFT, FAILED, KINDS, Action, AlarmKind, Resolution
from tis_sync.alarms.store import Alarm, Closing
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.request import request_run
from tis_sync.runs.run import NIGHT, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web.presenters.remedies import remedy_of

__all__ = ["program"]
OWNER = "personOwnerRebuildJob"


def test_the_calls_of_the_java_service_answer_as_they_always_did(
    call: Console, s: Services
) -> None:
    keys = {job.name[0].lower() + job.name[1:] for job in JOBS}
    before = call("GET", "/api/jobs/status")
    assert (before.status, before.json) == (200, dict.fromkeys(keys, False))
    started = call("PUT", f"/api/job/{OWNER}")
    assert (started.status, started.json) == (200, {"status": "Just started"})
    again = call("PUT", f"/api/job/{OWNER}")
    assert again.json in ({"status": "Already running"}, {"status": "Just started"})
    unknown = call("PUT", "/api/job/noSuchJob")
    assert (unknown.status, unknown.json) == (400, {"error": "Job not found"})
    assert unknown.headers["content-type"] == "application/json"
    for run in s.history.recent():
        wait_for(s, run.id)
    assert {run.state for run in s.history.recent()} == {"succeeded"}


def test_a_running_job_is_reported_and_is_not_started_twice(call: Console, s: Services) -> None:
    active = request_run(
        s,
        job_named(OWNER),
        trigger=Trigger.MANUAL,
        requested_by="test",
        options=RunOptions(),
    )
    assert call("GET", "/api/jobs/status").json[OWNER] is True
    assert call("PUT", f"/api/job/{OWNER}").json == {"status": "Already running"}
    s.history.end(active.id, RunState.CANCELLED, s.clock(), "by the test")
    assert call("GET", "/api/jobs/status").json[OWNER] is False


def test_all_jobs_are_started_by_one_call(call: Console, s: Services) -> None:
    assert call("PUT", "/api/jobs").json == {"status": "Just started"}
    assert call("PUT", "/api/jobs").json == {"status": "Already running"}
    (night,) = [run for run in s.history.recent() if run.job == NIGHT]
    ended = wait_for(s, night.id)
    assert {run.job for run in ended} == {NIGHT, *(job.name for job in JOBS)}
    assert {run.state for run in ended} == {"succeeded"}


def test_the_api_shows_jobs_runs_and_logs(call: Console, s: Services) -> None:
    (run, *_) = run_job(s, OWNER, follow_ups=False)
    jobs = {job["name"]: job for job in call("GET", "/api/v1/jobs").json}
    assert list(jobs) == [job.name for job in JOBS]
    job = call("GET", f"/api/v1/jobs/{OWNER}").json
    assert job == jobs["PersonOwnerRebuildJob"]
    assert (job["key"], job["at"], job["paused"]) == (OWNER, "00:05", False)
    assert job["last_run"]["state"] == "succeeded"
    assert job["last_run"]["added"] == run.added
    page = call("GET", "/api/v1/runs?limit=1").json
    assert page["items"] == [job["last_run"]]
    assert call("GET", f"/api/v1/runs/{run.id[:8]}").json == job["last_run"]
    log = call("GET", f"/api/v1/runs/{run.id}/log").json
    assert log
    assert call("GET", f"/api/v1/runs/{run.id}/log?after={log[-1]['id']}").json == []
    s.alarms.open(FAILED, "a job", "It failed.", s.clock(), impact="people wait")
    (alarm,) = call("GET", "/api/v1/alarms").json
    assert (alarm["kind"], alarm["subject"]) == ("failed", "a job")
    assert alarm["text"].startswith("It failed. Until a run succeeds: people wait.")
    assert "TCS schema" in {finding["name"] for finding in call("GET", "/api/v1/doctor").json}


def test_errors_are_problems_that_say_what_is_wrong(call: Console, s: Services) -> None:
    run_job(s, "PersonElasticSearchSyncJob")
    wrong = {
        "/api/v1/runs/nothing": (404, "nothing"),
        "/api/v1/jobs/PersonOwner": (404, "did you mean"),
        "/api/v1/runs?limit=0": (422, "limit"),
        "/api/v1/runs?after=nothing": (404, "nothing"),
        "/api/v1/search/persons?where=grade": (400, "FIELD=VALUE"),
        "/api/v1/search/persons?where=height=3": (400, "cannot be filtered on"),
        "/api/v1/search/people": (422, "persons"),
        "/api/v1/esr/records?state=SENT": (422, "TO_EXPORT"),
        "/api/v1/esr/files?deanery=XYZ": (400, "WES"),
        "/api/v1/esr/files/DE_WES_APP_20260731_00000001.DAT": (404, "no file"),
        "/api/v1/esr/explain/12345678901234567890": (422, "placement"),
        "/api/v1/none": (404, "Not Found"),
    }
    for path, (status, part) in wrong.items():
        answer = call("GET", path)
        assert answer.status == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == status
        assert part in answer.json["detail"]


def test_the_description_of_the_api_contains_every_call(call: Console) -> None:
    described = call("GET", "/api/v1/openapi.json").json
    assert {"/sync/api/jobs", "/sync/api/v1/runs/{run_id}/log"} <= set(described["paths"])
    assert described["components"]["schemas"]["RunDetails"]["examples"]


def test_health_reports_whether_the_process_is_alive_and_can_work(call: Console) -> None:
    assert call("GET", "/health/live").json == {"status": "ok"}
    ready = call("GET", "/health/ready")
    expected = {"state": "ok", "scheduler": "ok", "alarms": "ok"}
    assert (ready.status, ready.json) == (200, expected)


def test_open_alarms_make_health_yellow_but_the_process_stays_ready(
    call: Console, s: Services
) -> None:
    s.alarms.open(FAILED, "a job", "It failed.", s.clock(), impact="people wait")
    ready = call("GET", "/health/ready")
    assert (ready.status, ready.json["alarms"]) == (200, "1 open")
    assert call("GET", "/health/live").status == 200
    health = call("GET", "/health").text
    assert "attention" in health
    assert "1 open: a job: failed" in health
    assert "not checked" in health
    s.alarms.close(FAILED, "a job", s.clock(), Closing(Resolution.EXPIRED, "It was too late."))
    (closed,) = call("GET", "/api/v1/alarms?closed=true").json
    assert (closed["resolution"], closed["closing"]) == ("expired", "It was too late.")
    assert closed["severity"] == "failure"
    assert "It was too late." in call("GET", "/health").text


def test_an_unexpected_error_of_a_request_is_logged_once_with_its_traceback(
    call: Console, s: Services, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(s.alarms, "open_alarms", fail)
    logs.configure(s.settings, level="WARNING")
    logging.getLogger().addHandler(caplog.handler)
    assert call("GET", "/api/v1/alarms").status == 500
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len([record for record in errors if "LookupError" in logged(record)]) == 1
    assert "in fail" in next(logged(record) for record in errors if "LookupError" in logged(record))


def logged(record: logging.LogRecord) -> str:
    """A line as it would be written."""
    return logging.getLogger().handlers[0].format(copy(record))


def test_reading_pages_and_calls_writes_nothing_to_the_destination(
    idle: Services, tmp_path: Path
) -> None:
    folder, probes = tmp_path / "destination", tmp_path / "probes"
    folder.mkdir()
    probes.mkdir()
    changes = {"export_url": SecretStr(f"file://{folder}"), "export_probe_folder": str(probes)}
    settings = idle.settings.model_copy(update=changes)

    def destination(findings: list[dict[str, str]]) -> str:
        (message,) = [f["message"] for f in findings if f["name"] == "export destination"]
        return message

    with console_with(idle, settings) as call:
        before = folder.stat().st_mtime_ns, probes.stat().st_mtime_ns
        assert "destination can be read" in call("GET", "/health").text
        assert "can be read" in destination(call("GET", "/api/v1/doctor").json)
        assert (folder.stat().st_mtime_ns, probes.stat().st_mtime_ns) == before
        assert "accepts files" in destination(call("POST", "/api/v1/doctor").json)
        assert probes.stat().st_mtime_ns > before[1]
        assert "accepts files" in call("POST", "/health").text
        assert folder.stat().st_mtime_ns == before[0]
    checks = [entry for entry in audit.entries(idle.state) if entry.action == "check"]
    assert len(checks) == 2


def test_a_page_of_another_site_does_not_reach_it(call: Console) -> None:
    assert call("GET", "/api/jobs/status", host="evil.example").status == 400
    preflight = call("OPTIONS", f"/api/job/{OWNER}", origin="https://evil.example")
    assert preflight.status == 405
    assert "access-control-allow-origin" not in preflight.headers


def test_without_sign_in_the_console_refuses_an_address_that_others_can_reach(
    program: Program,
) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org", ""):
        ended = program("serve", "--host", host)
        assert ended.code == 2
        assert "this machine only" in ended.err or "is not an address" in ended.err


def test_a_public_address_without_sign_in_is_wrong_usage(program: Program) -> None:
    ended = program("serve", web_url="https://sync.example")
    assert ended.code == 2
    assert "TIS_SYNC_OIDC_ISSUER" in ended.err


def test_sign_in_without_a_public_address_is_wrong_usage(program: Program) -> None:
    ended = program("serve", oidc_issuer="https://login.example")
    assert ended.code == 2
    assert "TIS_SYNC_WEB_URL is needed" in ended.err


def test_the_program_answers_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, **ON_THE_DAY, "TIS_SYNC_HOME": str(tmp_path)}
    environment["TIS_SYNC_NIGHT_START_HOURS"] = "[0, 0]"
    with serving(environment, port) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_no_secret_is_in_any_page_or_answer(tmp_path: Path, embedded_tcs: World) -> None:
    secret = "Tr0ub4dor"
    s = Services(
        Settings(
            home=tmp_path,
            tcs_url=f"mysql+pymysql://tcs:{secret}@127.0.0.1:9/tcs",
            search_url=f"elasticsearch+http://elastic:{secret}@127.0.0.1:9",
            export_url=f"sftp://esr:{secret}@127.0.0.1:9/upload",
            export_options={"password": secret, "host_key_fingerprint": "SHA256:" + "a" * 43},
            broker_url=f"amqp://esr:{secret}@127.0.0.1:9/",
            broker_api_url=f"http://esr:{secret}@127.0.0.1:9",
            notification_urls=[f"json://user:{secret}@127.0.0.1:9"],
            oidc_client_secret=secret,
        )
    )
    with console(s) as call:
        for path in ("/", "/health", "/esr?placement=1", "/search?text=x", "/search?diagnose=x",
                     "/api/v1/doctor", "/api/v1/settings", "/api/v1/search/persons?text=x",
                     "/api/v1/esr/explain/1", "/metrics"):  # fmt: skip
            answer = call("GET", path)
            assert secret not in answer.text + str(answer.headers), path
        for path in ("/health", "/api/v1/doctor"):
            answer = call("POST", path)
            assert answer.status == 200, path
            assert secret not in answer.text + str(answer.headers), path
    s.close()


def test_every_kind_of_alarm_has_its_part_of_the_runbook(idle: Services) -> None:
    with console(idle) as call:
        for kind in KINDS:
            path, anchor = remedy_of(alarm_of(kind, "x")).runbook.split("#")
            assert f'id="{anchor}"' in call("GET", path.removeprefix("/sync")).text, kind.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_alarm_whose_subject_is_unknown_has_a_page_and_at_most_the_night_as_button(
    kind: AlarmKind,
) -> None:
    remedy = remedy_of(alarm_of(kind, "x"))
    assert remedy.page.startswith("/sync/")
    assert (remedy.button is not None) == (kind.action is Action.RUN_NIGHT)


@pytest.mark.parametrize(
    ("action", "subject", "path", "fields"),
    [
        (Action.RUN_JOB, "PersonOwnerRebuildJob", f"/sync/jobs/{OWNER}/run", {}),
        (Action.RUN_NIGHT, "scheduler", "/sync/night", {}),
        (
            Action.EXPORT_UNSENT,
            "WES",
            "/sync/esr/export",
            {"deanery": "WES", "type": "app", "new": "yes"},
        ),
        (
            Action.EXPORT_FILE,
            "DNC LDN",
            "/sync/esr/export",
            {"deanery": "LDN", "type": "notification"},
        ),
    ],
)
def test_the_button_of_an_alarm_does_what_its_kind_says(
    action: Action, subject: str, path: str, fields: dict[str, str]
) -> None:
    for kind in (kind for kind in KINDS if kind.action is action):
        button = remedy_of(alarm_of(kind, subject)).button
        assert button is not None, kind.name
        assert (button.path, button.fields) == (path, fields), kind.name


def test_an_alarm_about_a_run_links_to_the_run() -> None:
    alarm = Alarm(DRIFT, "x", "", NOW, None, "123")
    assert remedy_of(alarm).page == "/sync/runs/123"


def alarm_of(kind: AlarmKind, subject: str) -> Alarm:
    return Alarm(kind, subject, "", NOW, None, None)


def test_the_root_leads_to_the_console(call: Console) -> None:
    for path in ("/", "/sync"):
        response = httpx2.get(call.url + path, follow_redirects=True)
        assert (response.status_code, "<h1" in response.text) == (200, True)
