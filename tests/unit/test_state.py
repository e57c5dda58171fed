"""The history in the state database, on both kinds of database."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY
from tis_sync import logs
from tis_sync.errors import AlreadyRunningError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.history import History
from tis_sync.runs.run import Phase, Rerun, RunDetail, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs.fit import SetAside

JOB = "PersonOwnerRebuildJob"
RERUN = Rerun(Trigger.FOLLOW_UP, "t")


@pytest.fixture(params=["sqlite", "postgresql"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    services = Services(Settings(home=tmp_path, state_url=url), lambda: NOW)
    yield services
    services.close()


def request(history: History, job: str = JOB, age_days: int = 0) -> str:
    return history.request(
        job, trigger=Trigger.MANUAL, requested_by="t", as_of=AsOf.on(TODAY), options=RunOptions(),
        now=NOW - timedelta(days=age_days),
    ).id  # fmt: skip


def test_the_history_records_a_run_from_its_request_to_its_end(services: Services) -> None:
    history = services.history
    run_id = request(history)
    assert history.get(run_id[:6]).state == "queued"
    history.begin(run_id, NOW)
    history.enter_phase(run_id, Phase.PLAN, NOW, 3)
    history.partition_done(run_id)
    history.note(
        run_id,
        considered=7,
        added=1,
        changed=2,
        removed=3,
        detail=RunDetail({"added": [{"id": 1}]}),
    )
    bad = SetAside("Placement", "7", "postId", "x", "is not a number")
    history.add_set_aside(run_id, [bad, bad])
    history.add_set_aside(run_id, [bad])
    run = history.get(run_id)
    assert (run.phase, run.partitions, run.partitions_done) == ("plan", 3, 1)
    history.end(run_id, RunState.SUCCEEDED, NOW + timedelta(seconds=4), rerun_as_of=AsOf.on(TODAY))
    assert history.children(run_id) == []
    run = history.get(run_id)
    assert (run.state, run.seconds, run.written, run.detail) == (
        "succeeded",
        4.0,
        6,
        RunDetail({"added": [{"id": 1}]}),
    )
    assert history.set_aside(run_id) == ["Placement 7: postId 'x' is not a number"]
    assert [name for name, _ in history.phases(run_id)] == ["plan"]
    history.end(run_id, RunState.FAILED, NOW, "too late")
    assert history.get(run_id).state == "succeeded"


def test_a_job_has_one_active_run(services: Services) -> None:
    first = request(services.history)
    with pytest.raises(AlreadyRunningError, match=first[:8]):
        request(services.history)
    assert services.history.request_rerun(first, RERUN)
    services.history.end(first, RunState.FAILED, NOW, "x", rerun_as_of=AsOf.on(TODAY))
    assert not services.history.request_rerun(first, RERUN)
    (second,) = services.history.children(first)
    assert (second.state, second.job, second.trigger) == (RunState.QUEUED, JOB, Trigger.FOLLOW_UP)
    with pytest.raises(AlreadyRunningError, match=second.id[:8]):
        request(services.history)


def test_only_a_cancelled_run_is_reopened(services: Services) -> None:
    history = services.history
    run_id = request(history)
    with pytest.raises(UsageError, match="only a cancelled run"):
        history.reopen(run_id, AsOf.on(TODAY))
    history.end(run_id, RunState.CANCELLED, NOW, "by a person")
    other = request(history)
    with pytest.raises(AlreadyRunningError):
        history.reopen(run_id, AsOf.on(TODAY))
    history.end(other, RunState.SUCCEEDED, NOW)
    assert history.reopen(run_id, AsOf.on(TODAY)).state == "queued"


def test_runs_are_kept_for_400_days_and_the_last_success_for_ever(services: Services) -> None:
    history = services.history
    success, old, recent = request(history, age_days=900), None, None
    history.end(success, RunState.SUCCEEDED, NOW)
    old = request(history, age_days=401)
    history.end(old, RunState.FAILED, NOW)
    history.log(old, NOW, "info", "line")
    recent = request(history, age_days=399)
    history.end(recent, RunState.FAILED, NOW)
    assert history.prune(NOW, 400) == 1
    assert {run.id for run in history.recent()} == {success, recent}
    assert history.lines(old) == []


def test_dry_runs_never_hide_the_last_success(services: Services) -> None:
    history = services.history
    success = request(history, age_days=3)
    history.end(success, RunState.SUCCEEDED, NOW)
    for _ in range(70):
        dry = history.request(
            JOB,
            trigger=Trigger.MANUAL,
            requested_by="t",
            as_of=AsOf.on(TODAY),
            options=RunOptions(dry_run=True),
            now=NOW,
        )
        history.end(dry.id, RunState.SUCCEEDED, NOW)
    last = history.last_success(JOB)
    assert last is not None
    assert last.id == success
    assert len(history.successes(JOB, 10)) == 1
    assert len(history.recent(100)) == 71


def test_an_ambiguous_id_is_refused(services: Services) -> None:
    history = services.history
    for job in "abcdefghijklmnopqrstuvwxyz":
        request(history, job)
    with pytest.raises(UsageError, match="Several runs"):
        history.get("")
    with pytest.raises(UsageError, match="no run"):
        history.get("%")


def test_logs_go_to_a_rotating_file_and_to_the_run(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "tis-sync.log"
    settings = Settings(home=tmp_path, log_file=path, log_file_bytes=10_000, log_format="json")
    logs.configure(settings)
    lines: list[tuple[str, str, str]] = []
    logs.to_history(lambda *line: lines.append(line))
    try:
        with logs.run_log("12345678-run") as log:
            for number in range(200):
                log.info("something happened", number=number)
        logs.get().info("outside")
    finally:
        logs.to_history(None)
        logs.configure(Settings(home=tmp_path), level="CRITICAL")
    assert lines[0] == ("12345678-run", "info", "something happened number=0")
    assert len(lines) == 200
    assert path.exists()
    assert path.with_suffix(".log.1").exists()
    last = json.loads(path.read_text().splitlines()[-1])
    assert last["event"] == "outside"
    assert "run_id" not in path.read_text()
    assert logging.getLogger().handlers
