"""The old calls, bit for bit; looking by API; errors as problems; this machine only."""

import os
import re
import signal
from pathlib import Path

import httpx2

from tests.cli.conftest import Program, program
from tests.conftest import NOW, ON_THE_DAY
from tests.destinations import free_port
from tests.running import run_job, wait_for
from tests.web.conftest import Console, console, serving
from tests.world import World
from tis_sync.alerts import alarms
from tis_sync.alerts.alarms import Alarm
from tis_sync.esr import watch
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.ask import ask
from tis_sync.runs.run import NIGHT, Options
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.web.remedy import remedy

__all__ = ["program"]
OWNER = "personOwnerRebuildJob"


def test_the_old_calls_answer_as_they_always_did(call: Console, s: Services) -> None:
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


def test_a_job_that_runs_is_told_and_is_not_started_twice(call: Console, s: Services) -> None:
    asked = ask(s, job_named(OWNER), trigger="manual", who="test", options=Options())
    assert call("GET", "/api/jobs/status").json[OWNER] is True
    assert call("PUT", f"/api/job/{OWNER}").json == {"status": "Already running"}
    s.history.end(asked.id, "cancelled", s.clock(), "by the test")
    assert call("GET", "/api/jobs/status").json[OWNER] is False


def test_all_jobs_are_started_by_one_call(call: Console, s: Services) -> None:
    assert call("PUT", "/api/jobs").json == {"status": "Just started"}
    assert call("PUT", "/api/jobs").json == {"status": "Already running"}
    (night,) = [run for run in s.history.recent() if run.job == NIGHT]
    ended = wait_for(s, night.id)
    assert {run.job for run in ended} == {NIGHT, *(job.name for job in JOBS)}
    assert {run.state for run in ended} == {"succeeded"}


def test_what_runs_and_ran_is_seen_by_api(call: Console, s: Services) -> None:
    (run, *_) = run_job(s, OWNER, follow_ups=False)
    jobs = {job["name"]: job for job in call("GET", "/api/v1/jobs").json}
    assert list(jobs) == [job.name for job in JOBS]
    shown = call("GET", f"/api/v1/jobs/{OWNER}").json
    assert shown == jobs["PersonOwnerRebuildJob"]
    assert (shown["key"], shown["at"], shown["paused"]) == (OWNER, "00:05", False)
    assert shown["last"]["state"] == "succeeded"
    assert shown["last"]["added"] == run.added
    page = call("GET", "/api/v1/runs?limit=1").json
    assert page["items"] == [shown["last"]]
    assert call("GET", f"/api/v1/runs/{run.id[:8]}").json == shown["last"]
    log = call("GET", f"/api/v1/runs/{run.id}/log").json
    assert log
    assert call("GET", f"/api/v1/runs/{run.id}/log?after={log[-1]['id']}").json == []
    s.alarms.raise_("failed", "a job", "It failed.", s.clock())
    (alarm,) = call("GET", "/api/v1/alarms").json
    assert (alarm["kind"], alarm["text"]) == ("failed", "It failed.")
    assert "TCS schema" in {finding["name"] for finding in call("GET", "/api/v1/doctor").json}


def test_errors_are_problems_that_say_what_was_wrong(call: Console, s: Services) -> None:
    run_job(s, "PersonElasticSearchSyncJob")
    wrong = {
        "/api/v1/runs/nothing": (404, "nothing"),
        "/api/v1/jobs/PersonOwner": (404, "did you mean"),
        "/api/v1/runs?limit=0": (422, "limit"),
        "/api/v1/runs?after=nothing": (404, "nothing"),
        "/api/v1/search/persons?where=grade": (400, "FIELD=VALUE"),
        "/api/v1/search/persons?where=height=3": (400, "cannot be filtered on"),
        "/api/v1/search/people": (422, "persons"),
        "/api/v1/esr/records?state=SENT": (400, "TO_EXPORT"),
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


def test_the_description_tells_every_call(call: Console) -> None:
    told = call("GET", "/api/v1/openapi.json").json
    assert {"/sync/api/jobs", "/sync/api/v1/runs/{run_id}/log"} <= set(told["paths"])
    assert told["components"]["schemas"]["RunShown"]["examples"]


def test_health_says_whether_it_lives_and_can_work(call: Console) -> None:
    assert call("GET", "/health/live").json == {"status": "ok"}
    ready = call("GET", "/health/ready")
    assert (ready.status, ready.json) == (200, {"state": "ok", "scheduler": "ok"})


def test_a_page_of_another_site_does_not_reach_it(call: Console) -> None:
    assert call("GET", "/api/jobs/status", host="evil.example").status == 400
    asked = call("OPTIONS", f"/api/job/{OWNER}", origin="https://evil.example")
    assert asked.status == 405
    assert "access-control-allow-origin" not in asked.headers


def test_it_refuses_to_answer_on_an_address_that_others_reach(program: Program) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org", ""):
        ended = program("serve", "--host", host)
        assert ended.code == 2
        assert "this machine only" in ended.err or "is no address" in ended.err


def test_the_program_answers_until_it_is_told_to_stop(tmp_path: Path) -> None:
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
            export_options={"password": secret},
            broker_url=f"amqp://esr:{secret}@127.0.0.1:9/",
            broker_api_url=f"http://esr:{secret}@127.0.0.1:9",
            alert_urls=[f"json://user:{secret}@127.0.0.1:9"],
            oidc_client_secret=secret,
        )
    )
    with console(s) as call:
        for path in ("/", "/health", "/esr?placement=1", "/search?text=x", "/search?missing=x",
                     "/api/v1/doctor", "/api/v1/settings", "/api/v1/search/persons?text=x",
                     "/api/v1/esr/explain/1", "/metrics"):  # fmt: skip
            answer = call("GET", path)
            assert secret not in answer.text + str(answer.headers), path
    s.close()


def test_every_kind_of_alarm_has_its_part_of_the_runbook(call: Console) -> None:
    kinds = re.findall(r"^\| ([a-zA-Z ]+?) \|", f"{alarms.__doc__}{watch.__doc__}", re.MULTILINE)
    kinds = [kind for kind in kinds if kind != "kind"]
    assert len(kinds) >= 16
    page = call("GET", "/runbook").text
    for kind in [*kinds, "dead letters", "not heard", "events unsent"]:
        alarm = Alarm(kind, "x", "", NOW, None, None)
        assert f'id="{remedy(alarm).runbook}"' in page, kind


def test_the_root_leads_to_the_console(call: Console) -> None:
    for path in ("/", "/sync"):
        reply = httpx2.get(call.url + path, follow_redirects=True)
        assert (reply.status_code, "<h1" in reply.text) == (200, True)
