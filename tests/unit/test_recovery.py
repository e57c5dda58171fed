"""Runs that no workflow carries out: they are queued, begin again, or end with an explanation."""

from types import SimpleNamespace
from typing import Any

import pytest
from dbos import DBOS, EnqueueOptions

from tests.demo_runs import INDEX, STATUS, request, services, settings
from tests.running import run_job, wait_for
from tests.waiting import eventually
from tis_sync.alarms.catalogue import FAILED
from tis_sync.durable.model import MOST_RECOVERIES
from tis_sync.durable.tables import client
from tis_sync.errors import TisSyncError, UnreachableError
from tis_sync.execution import recovery, workflow
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs import end
from tis_sync.runs.request import request_night
from tis_sync.runs.run import Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services

__all__ = ["services", "settings"]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "ORPHAN_SECONDS", -1.0)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let the end of runs or nights fail, as if the state database were away for long."""
    act, failures = getattr(end, name), iter(range(times))

    def unreachable_at_first(*given: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise UnreachableError("The state database does not answer.")
        return act(*given, **named)

    monkeypatch.setattr(end, name, unreachable_at_first)


def workflow_ended(s: Services, run_id: str) -> Run:
    """Wait until the workflow of a run has ended with an error."""

    def has_failed() -> bool:
        status = DBOS.get_workflow_status(s.history.get(run_id).workflow_id)
        return status is not None and status.status == "ERROR"

    eventually(has_failed)
    return s.history.get(run_id)


def test_a_night_whose_workflow_ended_with_an_error_begins_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "finish_night", 1)
    night = request_night(services, trigger=Trigger.START, requested_by="t", options=RunOptions())
    start_night(services, night.id)
    assert workflow_ended(services, night.id).is_active
    recovery.recover_runs(services)
    wait_for(services, night.id)
    assert services.history.get(night.id).state == RunState.SUCCEEDED
    runs = services.history.children(night.id)
    assert sorted(run.job for run in runs) == sorted(job.name for job in JOBS)


def test_a_run_whose_workflow_ended_with_an_error_begins_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "finish", 4)  # each time as a success, then as a failure
    run = request(services, STATUS)
    start_runs(services, [run.id])
    for _ in range(2):
        assert workflow_ended(services, run.id).is_active
        recovery.recover_runs(services)
    assert wait_for(services, run.id)[0].state == RunState.SUCCEEDED
    lines = [line.text for line in services.history.lines(run.id)]
    assert sum("begins again" in line for line in lines) == 2
    assert services.alarms.open_alarms() == []


def test_a_run_whose_workflow_ends_with_an_error_each_time_fails(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "finish", 100)
    run = request(services, STATUS)
    start_runs(services, [run.id])
    for _ in range(MOST_RECOVERIES + 1):
        workflow_ended(services, run.id)
        recovery.recover_runs(services)
    ended = services.history.get(run.id)
    assert ended.state == RunState.FAILED
    assert "ended with an error 4 times" in (ended.error or "")
    (alarm,) = services.alarms.open_alarms()
    assert (alarm.kind, alarm.subject) == (FAILED, STATUS)


def test_a_run_that_cannot_be_recovered_does_not_keep_others_from_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = request(services, INDEX), request(services, STATUS)
    status = DBOS.get_workflow_status

    def unknown(workflow_id: str) -> Any:
        if workflow_id == broken.id:
            raise UnreachableError("The state database does not answer.")
        return status(workflow_id)

    monkeypatch.setattr(DBOS, "get_workflow_status", unknown)
    with pytest.raises(TisSyncError, match=f"{broken.id[:8]} of {INDEX}"):
        recovery.recover_runs(services)
    assert wait_for(services, other.id)[0].state == RunState.SUCCEEDED


def test_a_run_that_an_earlier_version_has_begun_ends_with_an_explanation(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = request(services, STATUS)
    options = EnqueueOptions(
        workflow_name=workflow.RUN_JOB.name,
        queue_name=workflow.RUNS_QUEUE,
        workflow_id=old.id,
        app_version="2",
    )
    with client(services.settings) as dbos:
        dbos.enqueue(options, old.id)
    recovery.recover_runs(services)
    ended = services.history.get(old.id)
    assert ended.state == RunState.FAILED
    assert ended.error == "It was begun by an earlier version of tis-sync; run it again."
    (alarm,) = services.alarms.open_alarms()
    assert (alarm.kind, alarm.subject) == (FAILED, STATUS)
    assert (status := DBOS.get_workflow_status(old.id))
    assert status.status == "CANCELLED"  # no worker of that version takes it up
    assert run_job(services, STATUS, follow_ups=False)[0].state == RunState.SUCCEEDED


@pytest.mark.parametrize(("version", "is_alive"), [("2", True), ("999", False), (None, False)])
def test_a_run_of_a_living_worker_or_of_a_later_version_is_left_alone(
    services: Services, monkeypatch: pytest.MonkeyPatch, version: str | None, is_alive: bool
) -> None:
    run = request(services, STATUS)
    executor = services.worker_id if is_alive else "gone"
    status = SimpleNamespace(status="PENDING", app_version=version, executor_id=executor)
    monkeypatch.setattr(DBOS, "get_workflow_status", lambda _: status)
    recovery.recover_runs(services)
    assert services.history.get(run.id).is_active
