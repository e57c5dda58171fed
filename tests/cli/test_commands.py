"""The commands, in the order in which a new user needs them."""

import getpass
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.conftest import Program, Result
from tests.conftest import NOW, ON_THE_DAY
from tests.waiting import eventually
from tis_sync import __version__, actions
from tis_sync.alarms.catalogue import OVERDUE
from tis_sync.audit import Actor, Channel, entries
from tis_sync.db.database import connect
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import RunOptions, RunState
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t


@pytest.fixture
def demo(program: Program) -> Result:
    """A small demo, run once."""
    result = program("demo", "--people", "300")
    assert result.code == 0, result.err
    return result


def execute(home: Path, statement: sa.Executable) -> None:
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    with engine.write() as connection:
        connection.execute(statement)
    engine.close()


def test_the_demo_makes_data_runs_the_night_and_searches(program: Program, demo: Result) -> None:
    assert "Synthetic TCS with 300 people" in demo.out
    for job in JOBS:
        assert re.search(rf"{job.name} +succeeded", demo.out)
    assert "rows considered" in demo.out
    assert re.search(r"^\d+ found, \d+ shown", demo.out, re.MULTILINE)
    again = program("demo", "--people", "300")
    assert again.code == 0
    assert "it already exists" in again.out
    lines = [line for line in again.out.splitlines() if re.search(r"Job +succeeded", line)]
    assert len(lines) == len(JOBS)
    assert all(re.search(r" 0 +0 +0 +[\d.]+$", line) for line in lines)


def test_history_and_show_report_every_run(program: Program, demo: Result) -> None:
    history = program("history", "--json").json
    assert len(history) == len(JOBS) + 1
    assert {run["trigger"] for run in history} == {"manual", "night"}
    night = next(run for run in history if run["job"] == "night")
    assert "succeeded" in program("show", night["id"][:8]).out
    owner = next(run for run in history if run["job"] == "PersonOwnerRebuildJob")
    assert owner["seconds"] > 0
    assert [name for name in ("check", "plan", "apply") if name in program("show", owner["id"]).out]
    log = program("show", owner["id"], "--log", "--follow")
    assert "started" in log.out
    assert "succeeded" in log.out
    assert program("show", owner["id"], "--json").json["id"] == owner["id"]
    only = program("history", "--job", "personOwnerRebuildJob", "--limit", "5")
    assert only.out.count("PersonOwnerRebuildJob") == 1
    assert program("history", "--job", "night", "--json").json[0]["job"] == "night"


def test_options_are_shown_as_on_the_command_line_and_missing_values_are_left_out(
    program: Program, demo: Result
) -> None:
    (dry,) = program("run", "PersonOwnerRebuildJob", "--dry-run", "--rebuild", "--json").json
    text = program("show", dry["id"]).out
    assert re.search(r"options: +--dry-run --rebuild$", text, re.MULTILINE)
    assert not re.search(r"(None|error:)", text)
    log = program("show", dry["id"], "--log").out
    assert "None" not in log
    newest = program("history", "--limit", "1").out.splitlines()[-1]
    assert re.search(r"dry run .* - +[\d.]+$", newest), newest  # it has written nothing


def test_json_is_all_that_a_command_prints_on_stdout(program: Program, demo: Result) -> None:
    for arguments in (
        ("night",),
        ("run", "PersonOwnerRebuildJob"),
        ("verify", "PersonOwnerRebuildJob"),
        ("esr", "export", "KSS"),
        ("esr", "generate"),
        ("esr", "dead", "retry", "--all"),
        ("history",),
        ("status",),
        ("doctor",),
    ):
        result = program(*arguments, "--json")
        json.loads(result.out)
        assert result.err == "", arguments


def test_status_fails_while_an_alarm_is_open(program: Program, demo: Result) -> None:
    result = program("status")
    assert result.code == 1
    assert "scheduler: no worker" in result.out
    assert "tis-sync work" in result.out
    assert program("status", "--json").json["workers"] == []


def test_status_changes_no_alarm_whatever_the_settings_of_the_caller(
    program: Program, demo: Result, tmp_path: Path
) -> None:
    s = Services(Settings(home=tmp_path / "home"), lambda: NOW)
    s.alarms.open(OVERDUE, "PersonOwnerRebuildJob", "late.", NOW, impact="none")  # it succeeded
    before = s.alarms.open_alarms(), s.alarms.closed_alarms(9)
    for minutes in (1, 240):
        result = program("status", due_minutes=minutes)
        assert result.code == 1
        assert "PersonOwnerRebuildJob: overdue" in result.out
        assert "scheduler: no worker" in result.out
    assert (s.alarms.open_alarms(), s.alarms.closed_alarms(9)) == before
    s.close()


def test_a_job_runs_by_any_of_its_names_and_its_follow_ups_follow(
    program: Program, demo: Result, tmp_path: Path
) -> None:
    execute(tmp_path / "home", sa.delete(t.PersonOwner).where(t.PersonOwner.c.id < 30))
    result = program("run", "PERSONOWNERREBUILDJOB", "--json")
    assert result.code == 0
    assert [run["job"] for run in result.json] == [
        "PersonOwnerRebuildJob",
        "PersonElasticSearchSyncJob",
    ]
    assert result.json[0]["added"] == 29
    assert result.json[1]["trigger"] == "follow-up"
    execute(tmp_path / "home", sa.delete(t.PersonOwner).where(t.PersonOwner.c.id < 30))
    alone = program("run", "personOwnerRebuildJob", "--no-follow-ups", "--json")
    assert [run["job"] for run in alone.json] == ["PersonOwnerRebuildJob"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    program: Program, demo: Result, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    execute(home, sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId == 3))
    execute(home, sa.insert(t.PersonTrust).values(personId=3, trustId=999))
    result = program("run", "doPersonPlacementEmployingBodyFullSync", "--dry-run")
    assert result.code == 0
    assert "Nothing was written" in result.out
    assert "personId=3, trustId=999" in result.out
    assert program("verify", "personPlacementEmployingBodyTrustJob").code == 1
    assert program("run", "PersonPlacementEmployingBodyTrustJob", "--no-follow-ups").code == 0
    assert program("verify", "personPlacementEmployingBodyTrustJob").code == 0
    nothing = program("run", "PersonPlacementEmployingBodyTrustJob", "--dry-run")
    assert "nothing to do" in nothing.out


def test_a_dry_run_of_an_index_that_would_be_built_counts_its_documents(program: Program) -> None:
    assert program("demo", "--people", "50", "--data-only").code == 0
    (run,) = program("run", "PostElasticSearchSyncJob", "--dry-run", "--json").json
    assert (run["state"], run["added"]) == ("succeeded", 12)
    assert program("search", "posts").code == 1


def test_a_rebuild_replaces_a_whole_table_or_index(program: Program, demo: Result) -> None:
    (run,) = program("run", "PersonOwnerRebuildJob", "--rebuild", "--no-follow-ups", "--json").json
    assert (run["added"], run["removed"]) == (300, 300)
    (run,) = program("run", "PersonElasticSearchSyncJob", "--rebuild", "--json").json
    assert run["added"] > 290
    assert program("verify", "PersonOwnerRebuildJob", "personElasticSearchSyncJob").code == 0
    refused = program("run", "PersonRecordStatusJob", "--rebuild")
    assert refused.code == 2
    assert "nothing to rebuild" in refused.err


def test_a_plan_that_removes_too_much_is_held_until_it_is_approved(
    program: Program, demo: Result, tmp_path: Path
) -> None:
    execute(tmp_path / "home", sa.delete(t.Placement).where(t.Placement.c.id > 100))
    result = program("run", "PersonPlacementEmployingBodyTrustJob")
    assert result.code == 3
    assert "Nothing was written. If the source is wrong, fix it" in result.err
    assert "--approve" in result.err
    assert "PersonPlacementEmployingBodyTrustJob: held" in program("status").out
    dry = program("run", "PersonPlacementEmployingBodyTrustJob", "--dry-run", "--json")
    assert dry.json[0]["removed"] > 500
    approved = program("run", "PersonPlacementEmployingBodyTrustJob", "--approve", "--json")
    assert approved.json[0]["removed"] == dry.json[0]["removed"]
    assert "PersonPlacementEmployingBodyTrustJob: held" not in program("status").out


def test_verify_compares_everything_and_writes_nothing(program: Program, demo: Result) -> None:
    result = program("verify")
    assert result.code == 0, result.out + result.err
    assert len(re.findall(r"Job +correct", result.out)) == len(JOBS)
    assert {run["options"]["dry_run"] for run in program("verify", "--json").json} == {True}


def test_search_prints_a_table_or_json(program: Program, demo: Result) -> None:
    everybody = program("search", "persons", "--limit", "3")
    assert "3 shown" in everybody.out
    found = program("search", "persons", "--where", "status=CURRENT", "--json").json
    assert found["total"] > 0
    assert {person["status"] for person in found["documents"]} == {"CURRENT"}
    posts = program("search", "posts", "WES", "--json").json
    assert all("WES" in post["nationalPostNumber"] for post in posts["documents"])


def test_jobs_are_listed_with_their_times(program: Program) -> None:
    assert "00:05" in program("jobs").out
    listed = program("jobs", "--json", night_times='{"personOwnerRebuildJob": "23:45"}').json
    assert len(listed) == len(JOBS)
    assert listed[0]["at"] == "23:45"
    assert listed[0]["key"] == "personOwnerRebuildJob"


def test_the_schema_is_checked(program: Program, demo: Result, tmp_path: Path) -> None:
    result = program("schema", "check")
    assert result.code == 0
    assert "has all" in result.out
    assert program("schema", "check", "--json", java_shedlock="true").json == []
    execute(tmp_path / "home", sa.text("ALTER TABLE Post RENAME COLUMN owner TO boss"))
    result = program("schema", "check")
    assert result.code == 1
    assert re.search(r"Post +owner +is missing", result.out)
    assert program("schema", "check", "--json").json[0]["column"] == "owner"


def test_the_version_is_printed(program: Program) -> None:
    assert __version__ in program("--version").out


def test_a_night_is_printed_as_json(program: Program) -> None:
    assert program("demo", "--people", "40", "--data-only").code == 0
    runs = program("night", "--json").json
    assert runs[0]["job"] == "night"
    assert {run["state"] for run in runs} == {"succeeded"}


def test_schedules_of_a_running_worker_are_paused_and_unpaused(
    program: Program, demo: Result, tmp_path: Path
) -> None:
    assert program("pause", "PersonOwnerRebuildJob").code == 2
    worker = subprocess.Popen(
        [sys.executable, "-m", "tis_sync", "work"],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(tmp_path, night_start_hours="[0, 0]", log_format="json"),
    )
    try:
        assert worker.stdout is not None
        line = json.loads(worker.stdout.readline())
        assert line["event"] == "worker started"
        eventually(lambda: program("pause", "PersonOwnerRebuildJob").code == 0, 30)
        status = program("status", "--json").json
        assert len(status["workers"]) == 1
        assert status["paused"] == ["PersonOwnerRebuildJob"]
        assert program("status").code == 0
        assert program("unpause").code == 0
        assert program("status", "--json").json["paused"] == []
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert Settings(home=tmp_path / "home").embedded_state


def _environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    named = {f"TIS_SYNC_{name.upper()}": value for name, value in settings.items()}
    return {**os.environ, **ON_THE_DAY, **named, "TIS_SYNC_HOME": str(tmp_path / "home")}


def test_tokens_are_created_listed_and_revoked(program: Program) -> None:
    created = program("token", "create", "grafana", "--days", "30")
    assert created.code == 0
    secret = created.out.strip()
    assert secret.startswith("tis_")
    (listed,) = program("token", "list", "--json").json
    assert (listed["name"], listed["role"], listed["revoked_at"]) == ("grafana", "view", None)
    assert "grafana" in program("token", "list").out
    assert secret not in program("token", "list", "--json").out
    assert program("token", "revoke", "grafana").code == 0
    assert "revoked" in program("token", "list").out
    again = program("token", "create", "grafana")
    assert (again.code, "another name" in again.err) == (2, True)
    unknown_role = program("token", "create", "x", "--role", "admin")
    assert (unknown_role.code, "metrics, view, personal, update" in unknown_role.err) == (2, True)
    unknown = program("token", "revoke", "nobody")
    assert (unknown.code, "no token" in unknown.err) == (2, True)


def test_what_a_command_changes_is_in_the_audit_log(program: Program, demo: Result) -> None:
    assert program("run", "PersonOwnerRebuildJob", "--no-follow-ups").code == 0
    assert program("cancel", "abcdef").code == 2
    s = Services(Settings())
    newest, before = entries(s.state, limit=2)
    s.close()
    assert (newest.action, newest.subject) == ("cancel", "abcdef")
    assert "no run 'abcdef'" in newest.outcome
    assert (before.action, before.subject) == ("run", "PersonOwnerRebuildJob")
    assert (before.channel, before.outcome) == (Channel.COMMAND_LINE, "done")
    assert before.actor == getpass.getuser()


REFUSED = [
    (("run", "nosuchjob"), ("run", "nosuchjob"), "There is no job"),
    (("run", JOBS[0].name, "--date", "2026-02-30"), ("run", JOBS[0].name), "date"),
    (("run", JOBS[0].name, "--approve"), ("run", JOBS[0].name), "approve"),
    (("pause", "nosuchjob"), ("pause", "nosuchjob"), "There is no job"),
    (("unpause", "nosuchjob"), ("unpause", "nosuchjob"), "There is no job"),
    (("cancel", "nosuchrun"), ("cancel", "nosuchrun"), "no run"),
    (("resume", "nosuchrun"), ("resume", "nosuchrun"), "no run"),
    (("esr", "export", "XYZ"), ("export", "app XYZ"), "Unknown deanery"),
    (("esr", "export", "WES", "--type", "x"), ("export", "x WES"), "Unknown file type"),
    (("esr", "export", "WES", "--date", "tomorrow"), ("export", "app WES"), "date"),
    (("esr", "export", "WES", "--date", "9999-01-01"), ("export", "app WES"), ""),
    (("esr", "export", "WES", "--date", "2020-01-01"), ("export", "app WES"), "too long ago"),
    (("esr", "export", "WES", "--date", "2026-03-01"), ("export", "app WES"), "--yes"),
    (("esr", "dead", "retry", "x"), ("retry", "x"), ""),
    (("esr", "dead", "discard", "x"), ("discard dead letter", "x"), ""),
    (("token", "revoke", "x"), ("revoke token", "x"), "no token"),
    (("token", "create", "x", "--role", "admin"), ("create token", "x"), ""),
]  # fmt: skip


def test_changes_that_are_refused_are_in_the_audit_log_and_in_the_log_file(
    program: Program, tmp_path: Path
) -> None:
    assert program("demo", "--people", "50", "--data-only").code == 0
    log = tmp_path / "sync.log"
    for arguments, (action, subject), reason in REFUSED:
        result = program(*arguments, log_file=log)
        assert result.code == 2, result.err
        s = Services(Settings())
        entry = entries(s.state, limit=1)[0]
        s.close()
        assert (entry.action, entry.subject) == (action, subject), arguments
        assert entry.channel == Channel.COMMAND_LINE
        assert entry.outcome != "done"
        assert reason in entry.outcome, arguments
        assert entry.outcome in log.read_text(), arguments
    assert program("audit", "list", "--json").json[-1]["subject"] == "nosuchjob"
    verified = program("audit", "verify")
    assert (verified.code, "No entry was changed or removed" in verified.out) == (0, True)
    last_hash = program("audit", "verify", "--json").json["last_hash"]
    assert program("audit", "verify", "--hash", last_hash).code == 0
    state = connect(Settings().state(), name="State", setting="-")
    with state.write() as connection:
        connection.execute(sa.text("DELETE FROM audit WHERE id = 4"))
    state.close()
    broken = program("audit", "verify")
    assert (broken.code, "Entry 5" in broken.err) == (1, True)


def test_cancelled_runs_are_resumed_by_id(program: Program, demo: Result) -> None:
    s = Services(Settings())
    tester = Actor("tester", Channel.COMMAND_LINE)
    runs = [actions.run_job(s, tester, job, RunOptions()) for job in JOBS[:2]]
    for run in runs:
        assert "is cancelled" in program("cancel", run.id).out
    result = program("resume", *(run.id[:8] for run in runs))
    assert result.out.count("will be resumed by a worker") == 2
    assert {s.history.get(run.id).state for run in runs} == {RunState.QUEUED}
    s.close()


def test_the_demo_leaves_derived_tables_empty_without_the_legacy_state(
    program: Program, tmp_path: Path
) -> None:
    counts = []
    for option in ("--legacy-state", "--no-legacy-state"):
        home = tmp_path / option
        assert program("demo", "--people", "50", "--data-only", option, home=home).code == 0
        tcs = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
        with tcs.read() as connection:
            counts.append(len(connection.execute(sa.select(t.PersonTrust.c.id)).all()))
        tcs.close()
    with_legacy_state, without = counts
    assert with_legacy_state > 0
    assert without == 0
