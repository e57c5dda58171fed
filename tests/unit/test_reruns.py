"""Retries, resumed runs and reruns: nothing of an earlier attempt is applied, lost or approved."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY
from tests.demo_runs import (
    ACTOR,
    INDEX,
    STATUS,
    TRUSTS,
    request,
    services,
    settings,
)
from tests.running import run_job, run_night, ticking, wait_for, working
from tests.world import World
from tis_sync import actions
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.execution import partitions, preparation, progress, requests, workflow
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.reconcile import table_apply
from tis_sync.runs.end import end_run
from tis_sync.runs.request import request_child, request_night
from tis_sync.runs.run import Rerun, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state.liveness import RunEndedError
from tis_sync.tcs import tables as t

__all__ = ["services", "settings"]
OWNER = "PersonOwnerRebuildJob"
REMAINS = Rerun(Trigger.FOLLOW_UP, "t")


def test_a_partition_of_an_earlier_attempt_applies_no_plan_of_the_next_one(
    services: Services, embedded_tcs: World
) -> None:
    assert run_night(services)[0].state == RunState.SUCCEEDED
    complete = embedded_tcs.rows(t.PersonTrust, "personId")
    run = request(services, TRUSTS)
    services.history.begin(run.id, services.clock())
    (keys,) = preparation.prepare(services, run.id, 0).ranges
    partitions.plan_partition(services, run.id, 0, keys, None)
    next_attempt = progress.note_retry(services, run.id, 0, "TCS does not answer.", 60)
    embedded_tcs.execute(sa.delete(t.Placement))
    preparation.prepare(services, run.id, next_attempt)
    partitions.plan_partition(services, run.id, next_attempt, keys, None)  # not judged yet
    with pytest.raises(RunEndedError):
        partitions.apply_partition(services, run.id, 0, keys, None)
    assert embedded_tcs.rows(t.PersonTrust, "personId") == complete


def test_a_retry_that_is_noted_twice_is_one_retry(services: Services) -> None:
    run = request(services, TRUSTS)
    services.history.begin(run.id, services.clock())
    for _ in range(2):  # the first process died before the step was recorded
        assert progress.note_retry(services, run.id, 0, "TCS does not answer.", 60) == 1
    assert services.history.get(run.id).attempt == 1


def test_the_follow_ups_of_a_commit_that_went_through_unnoticed_run(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "RETRY_SECONDS", (0.1,))
    assert run_night(services)[0].state == RunState.SUCCEEDED
    apply = table_apply.apply

    def cut_off(*given: Any) -> None:
        monkeypatch.setattr(table_apply, "apply", apply)
        apply(*given)
        raise UnreachableError("TCS does not answer.")

    monkeypatch.setattr(table_apply, "apply", cut_off)
    embedded_tcs.execute(sa.delete(t.Placement).where(t.Placement.c.traineeId < 6))
    run = request(services, TRUSTS, Trigger.SCHEDULE)
    workflow.start_runs(services, [run.id])
    ended, *following = wait_for(services, run.id)
    assert (ended.state, ended.attempt, ended.written) == (RunState.SUCCEEDED, 1, 0)
    assert {child.job for child in following} >= set(JOB_BY_NAME[TRUSTS].follow_ups)


def test_the_runs_of_a_night_have_no_follow_ups_even_if_one_ends_twice(
    services: Services, embedded_tcs: World
) -> None:
    embedded_tcs.execute(sa.delete(t.PersonOwner).where(t.PersonOwner.c.id < 20))
    night, *runs = run_night(services)
    (owners,) = (run for run in runs if run.job == OWNER)
    assert owners.written > 0
    # The end is repeated by a worker that was taken over, after the night.
    assert end_run(services, owners.id, RunState.SUCCEEDED, None) == []
    assert len(services.history.children(night.id)) == len(runs)


def test_a_run_that_is_cancelled_and_resumed_leads_to_a_second_rerun(services: Services) -> None:
    run = request(services, TRUSTS)
    assert services.history.request_rerun(run.id, REMAINS)
    workflow.cancel(services, run.id)
    (first,) = services.history.children(run.id)
    workflow.cancel(services, first.id)
    services.history.reopen(run.id, run.as_of)
    assert services.history.request_rerun(run.id, REMAINS)
    (second,) = end_run(services, run.id, RunState.FAILED, "TCS does not answer.")
    assert second != first.id


def test_a_resumed_run_has_a_follow_up_although_that_of_its_first_attempt_is_active(
    services: Services,
) -> None:
    run, job = request(services, TRUSTS), JOB_BY_NAME[INDEX]
    assert request_child(services, job, run, Trigger.FOLLOW_UP)
    (first,) = services.history.children(run.id)
    services.history.begin(first.id, services.clock())
    assert request_child(services, job, run, Trigger.FOLLOW_UP)  # the same once more
    services.history.end(run.id, RunState.CANCELLED, services.clock())
    resumed = services.history.reopen(run.id, run.as_of)
    assert request_child(services, job, resumed, Trigger.FOLLOW_UP)
    (second,) = end_run(services, first.id, RunState.SUCCEEDED, None)
    assert services.history.get(second).job == INDEX


def test_a_held_run_for_a_past_day_is_approved_although_a_later_run_succeeded(
    services: Services, embedded_tcs: World
) -> None:
    assert run_night(services)[0].state == RunState.SUCCEEDED
    day = TODAY - timedelta(days=20)  # on which everybody starts
    embedded_tcs.execute(sa.update(t.ProgrammeMembership).values(programmeStartDate=day))
    embedded_tcs.execute(sa.update(t.Person).values(status="INACTIVE"))
    held = run_job(services, STATUS, date=str(day), follow_ups=False)[0]
    assert held.state == RunState.HELD
    assert run_job(services, STATUS, follow_ups=False)[0].state == RunState.SUCCEEDED
    approved = actions.approve(services, ACTOR, held.id)
    assert wait_for(services, approved.id)[0].state == RunState.SUCCEEDED
    with pytest.raises(UsageError, match="is not the last run"):
        actions.approve(services, ACTOR, held.id)


def test_a_cancelled_run_is_not_resumed_over_the_results_of_a_later_one(
    services: Services,
) -> None:
    run = request(services, STATUS)
    workflow.cancel(services, run.id)
    assert run_job(services, STATUS)[0].state == RunState.SUCCEEDED
    with pytest.raises(UsageError, match="has succeeded since"):
        workflow.resume(services, run.id)


def test_a_run_that_is_resumed_days_later_derives_the_state_of_that_day(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as services:
        run = request(services, INDEX)
        workflow.cancel(services, run.id)
    with working(settings, ticking(NOW + timedelta(days=4))) as services:
        resumed = workflow.resume(services, run.id)
        assert resumed.as_of.today == TODAY + timedelta(days=4)
        assert wait_for(services, run.id)[0].state == RunState.SUCCEEDED


def test_a_scheduled_run_behind_a_manual_one_is_retried_without_anyone(
    services: Services,
) -> None:
    active = request(services, TRUSTS)
    services.history.begin(active.id, services.clock())
    assert requests.request_scheduled(services, TRUSTS) == []
    (scheduled,) = end_run(services, active.id, RunState.SUCCEEDED, None)
    assert services.history.get(scheduled).trigger == Trigger.SCHEDULE
    assert progress.is_unattended(services, scheduled)
    assert not progress.is_unattended(services, active.id)


def test_a_night_that_was_cancelled_before_it_began_requests_nothing(services: Services) -> None:
    night = request_night(services, trigger=Trigger.MANUAL, requested_by="t", options=RunOptions())
    workflow.cancel(services, night.id)
    assert workflow.run_night(services, night.id) == RunState.CANCELLED
    assert services.history.children(night.id) == []


def test_a_rerun_of_a_night_that_was_cancelled_belongs_to_no_night(services: Services) -> None:
    active = request(services, TRUSTS)
    services.history.begin(active.id, services.clock())
    night = request_night(
        services, trigger=Trigger.MANUAL, requested_by="t", options=RunOptions(approve=True)
    )
    requests.request_night_runs(services, night.id)
    workflow.cancel(services, night.id)
    (following,) = end_run(services, active.id, RunState.SUCCEEDED, None)
    rerun = services.history.get(following)
    assert (rerun.trigger, rerun.options.approve) == (Trigger.FOLLOW_UP, False)


def test_a_night_approves_the_plan_that_was_held_although_the_job_is_active(
    services: Services, embedded_tcs: World
) -> None:
    assert run_night(services)[0].state == RunState.SUCCEEDED
    embedded_tcs.execute(sa.delete(t.Placement).where(t.Placement.c.traineeId % 2 == 0))
    held = run_job(services, TRUSTS)[0]
    assert held.state == RunState.HELD
    active = request(services, TRUSTS)
    services.history.begin(active.id, services.clock())
    night = request_night(
        services, trigger=Trigger.MANUAL, requested_by="t", options=RunOptions(approve=True)
    )
    requests.request_night_runs(services, night.id)
    (following,) = end_run(services, active.id, RunState.FAILED, "TCS does not answer.")
    assert services.history.get(following).options.approved_run == held.id
