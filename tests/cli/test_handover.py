"""Commands hand their work to the worker that runs; if none runs, they only do their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Program
from tests.conftest import ON_THE_DAY, TODAY
from tests.crash.program import tis_sync
from tests.waiting import eventually
from tis_sync import actions
from tis_sync.audit import Actor, Channel
from tis_sync.db.database import connect
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.durable.model import UNFINISHED, owner_of_queue
from tis_sync.durable.tables import client
from tis_sync.errors import AlreadyRunningError
from tis_sync.esr.deaneries import FileType
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.runs.run import Run, RunOptions, RunState
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.workers.home import Purpose, home_lock

OWNER, FUNDING = "PersonOwnerRebuildJob", "PostFundingStatusSyncJob"
ANN = Actor("ann", Channel.LOCAL)
ON_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.servers)
SECONDS = 60.0


@pytest.fixture(params=["embedded", ON_POSTGRESQL])
def variables(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a home with 300 people in TCS, in several partitions."""
    tcs = connect(f"sqlite:///{tmp_path / 'home' / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(tcs, demo.Size(300), TODAY, legacy_tables)
    tcs.close()
    given = {
        **ON_THE_DAY,
        "TIS_SYNC_HOME": str(tmp_path / "home"),
        "TIS_SYNC_PARTITION_KEYS": "80",
        "TIS_SYNC_NIGHT_START_HOURS": "[0, 0]",
        "TIS_SYNC_HEARTBEAT_SECONDS": "0.5",
        "TIS_SYNC_WORKER_TIMEOUT_SECONDS": "3",
    }
    if request.param == "postgresql":
        # The index is embedded too, so one process at a time works in the home.
        given["TIS_SYNC_STATE_URL"] = request.getfixturevalue("postgresql")
    return given


@pytest.fixture
def s(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """The services of a process that only looks."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    services = Services(Settings())
    assert services.history.recent() == []
    yield services
    services.close()


@contextmanager
def process(variables: dict[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The program in another process; killed at the end, if it still runs."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tis_sync", *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def worker(variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    with process(variables, "work") as started:
        assert started.stdout is not None
        assert "worker started" in started.stdout.readline()
        yield started


def workflows(s: Services, **which: Any) -> list[Any]:
    with client(s.settings) as dbos:
        return dbos.list_workflows(load_input=False, load_output=False, **which)


def executors(s: Services, run: Run) -> set[str]:
    """The processes that carried out a run and its partitions."""
    found = [*workflows(s, workflow_ids=[run.id]), *workflows(s, parent_workflow_id=run.id)]
    return {workflow.executor_id for workflow in found}


def registered_queues(s: Services) -> set[str]:
    with client(s.settings) as dbos:
        return {queue.name for queue in dbos.list_queues()}


def test_a_running_worker_carries_out_what_commands_request(
    s: Services, variables: dict[str, str], program: Program
) -> None:
    with worker(variables):
        eventually(lambda: program("status", "--json").json["workers"])
        (worker_id,) = program("status", "--json").json["workers"]
        night = program("night", "--json")
        assert (night.code, night.err) == (0, "")
        assert len(night.json) == len(JOBS) + 1
        assert program("verify").code == 0
        assert program("run", OWNER, "--rebuild", "--json").json[0]["added"] == 300
        for run in s.history.recent(100):
            assert executors(s, run) == {worker_id}
        assert program("esr", "generate").code == 0
        export = program("esr", "export", "KSS", "--json")
        assert export.json[0]["command"]["state"] == "done"
        (exported,) = workflows(s, name="tis_sync.esr_export")
        assert exported.executor_id == worker_id
        assert program("pause", OWNER).code == 0
        assert program("unpause", OWNER).code == 0


def test_a_request_begins_at_an_idle_worker_within_seconds(
    s: Services, variables: dict[str, str], program: Program
) -> None:
    with worker(variables):
        time.sleep(2)  # until the queues are polled rarely
        (run,) = program("run", OWNER, "--no-follow-ups", "--json").json
        stored = s.history.get(run["id"])
        assert stored.started_at is not None
        assert (stored.started_at - stored.created_at).total_seconds() < 3


def test_a_run_of_a_worker_is_cancelled_by_a_command(
    s: Services, variables: dict[str, str], program: Program
) -> None:
    with worker({**variables, "TIS_SYNC_PARTITION_KEYS": "64"}):
        run = actions.run_job(s, ANN, job_named("PersonElasticSearchSyncJob"), RunOptions())
        eventually(lambda: s.history.get(run.id).state == RunState.RUNNING)
        cancelled = program("cancel", run.id)
        state = s.history.get(run.id).state
        assert (cancelled.code, state) == (0, RunState.CANCELLED) or (
            (cancelled.code, state) == (2, RunState.SUCCEEDED)  # it was faster
        )


def test_two_commands_at_the_same_time_are_carried_out_one_after_the_other(
    s: Services, variables: dict[str, str]
) -> None:
    with process(variables, "night") as first, process(variables, "run", FUNDING) as second:
        for started in (first, second):
            out, err = started.communicate(timeout=SECONDS)
            assert started.returncode in {0, 1}, err
            assert "Traceback" not in out + err
    runs = s.history.recent(100)
    night = [run for run in runs if run.job == "night"]
    assert [run.state for run in night] == [RunState.SUCCEEDED]
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert not s.history.all_active()


def test_a_command_finishes_the_work_itself_when_the_worker_dies(
    s: Services, variables: dict[str, str]
) -> None:
    with worker(variables) as started:
        with process(variables, "night", "--json") as command:
            eventually(lambda: any(r.state == RunState.SUCCEEDED for r in s.history.recent(100)))
            started.kill()
            in_flight = [run.job for run in s.history.all_active()]
            out, err = command.communicate(timeout=SECONDS)
        assert command.returncode == 0, out + err
    assert in_flight
    assert {run.state for run in s.history.recent(100)} == {RunState.SUCCEEDED}
    assert not workflows(s, status=UNFINISHED)


@pytest.mark.parametrize("arguments", [("verify", OWNER), ("run", OWNER), ("esr", "export", "KSS")])
def test_a_command_carries_out_only_its_own_work(
    s: Services, program: Program, arguments: tuple[str, ...]
) -> None:
    assert program("run", OWNER, "--no-follow-ups").code == 0  # DBOS has its tables
    other = actions.run_job(s, ANN, job_named(FUNDING), RunOptions())
    (export,) = actions.export(s, ANN, ["NTH"], FileType.APP)
    result = program(*arguments)
    assert result.code in {0, 1}, result.err
    assert s.history.get(other.id).state == RunState.QUEUED
    waiting = {workflow.workflow_id for workflow in workflows(s, status="ENQUEUED")}
    assert waiting == {other.id, export.workflow_id}
    assert not [name for name in registered_queues(s) if owner_of_queue(name)]
    assert s.history.all_active() == [s.history.get(other.id)]


def test_without_a_worker_a_command_carries_out_partitions_and_follow_ups(
    s: Services, program: Program
) -> None:
    night = program("night", "--json")
    assert night.code == 0, night.err
    assert {run["state"] for run in night.json} == {"succeeded"}
    assert max(run["partitions"] or 0 for run in night.json) > 1
    run = program("run", OWNER, "--rebuild", "--json").json
    assert [member["state"] for member in run] == ["succeeded"] * 2
    assert not workflows(s, status=UNFINISHED)


def test_an_interrupted_run_is_resumed_before_the_next_one_of_its_job(
    s: Services, variables: dict[str, str], program: Program, tmp_path: Path
) -> None:
    killed = tis_sync(tmp_path / "home", "run", OWNER, kill=("apply:before", 2))
    assert killed.returncode == -signal.SIGKILL
    (interrupted,) = s.history.all_active()
    if "TIS_SYNC_STATE_URL" in variables:
        eventually(lambda: not s.workers.alive(all_processes=True))  # its heartbeat is stale
    again = program("run", OWNER)
    assert again.code == 0, again.err
    assert "That run was interrupted and is resumed first." in again.err
    assert s.history.get(interrupted.id).state == RunState.SUCCEEDED
    assert len([run for run in s.history.recent() if run.job == OWNER]) == 2


def test_a_run_that_has_just_ended_is_not_called_interrupted(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program("demo", "--people", "50").code == 0
    s = Services(Settings(home=tmp_path / "home"))
    ended = s.history.last(OWNER)
    s.close()
    assert ended is not None
    run_job, refusals = actions.run_job, [AlreadyRunningError("Already running: x", ended.id)]

    def refusing_once(*given: Any) -> Run:
        if refusals:
            raise refusals.pop()
        return run_job(*given)

    monkeypatch.setattr(actions, "run_job", refusing_once)
    result = program("run", OWNER, "--no-follow-ups")
    assert (result.code, refusals) == (0, [])
    assert "interrupted" not in result.err


def test_an_interrupted_command_ends_at_once_and_leaves_its_work_to_the_next(
    s: Services, variables: dict[str, str], program: Program
) -> None:
    with process({**variables, "TIS_SYNC_PARTITION_KEYS": "64"}, "night") as command:
        eventually(s.history.all_active)
        time.sleep(0.3)
        command.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, err = command.communicate(timeout=SECONDS)
        assert time.monotonic() - started < 15
        assert command.returncode == 130, err
        assert "Interrupted" in err
    assert program("night").code == 0
    assert not s.history.all_active()


def test_a_worker_that_waits_for_a_command_to_end_can_be_stopped(
    variables: dict[str, str], s: Services
) -> None:
    with home_lock(s.settings.home, Purpose.COMMAND), process(variables, "work") as waiting:
        assert waiting.stdout is not None
        assert "waiting for a command to end" in waiting.stdout.readline()
        time.sleep(1.0)  # it tries again several times meanwhile
        waiting.send_signal(signal.SIGTERM)
        rest, _ = waiting.communicate(timeout=SECONDS)
        assert waiting.returncode == 0
        assert "waiting for a command" not in rest


def test_a_command_that_cannot_begin_says_why(variables: dict[str, str], s: Services) -> None:
    (s.settings.home / "lock").mkdir()
    with process(variables, "run", OWNER) as command:
        _, error = command.communicate(timeout=SECONDS)
    assert command.returncode == 1
    assert error.strip().endswith("cannot be used: Is a directory.")
