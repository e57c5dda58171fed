"""The second attempt of a run: what was judged, begun, locked or requested before is respected."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from dbos import DBOS

from tests.conftest import NOW, TODAY, Clock
from tests.demo_runs import ACTOR, INDEX, STATUS, TRUSTS, request, services, settings
from tests.running import run_job, run_night, wait_for, working
from tests.waiting import eventually
from tests.world import LOCKS, World
from tis_sync import actions
from tis_sync.alarms.catalogue import FAILED, OVERDUE, SLOW
from tis_sync.app import command_session
from tis_sync.errors import DeliveryError, LockedError, UsageError
from tis_sync.execution import (
    build,
    job_lock,
    partitions,
    preparation,
    recovery,
    requests,
    workflow,
)
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.catalogue import JOBS, job_named
from tis_sync.jobs.person_index import PERSONS
from tis_sync.reconcile import table_apply
from tis_sync.runs import partition
from tis_sync.runs.end import end_run
from tis_sync.runs.request import request_night
from tis_sync.runs.run import Rerun, Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import Delivery
from tis_sync.settings.model import Settings
from tis_sync.tcs import shedlock
from tis_sync.tcs import tables as t


def pairs(world: World) -> int:
    return len(world.rows(t.PersonTrust, "personId"))


__all__ = ["services", "settings"]


def before_applying(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something once, after a plan was judged and before any of it is applied; forget plans."""
    apply, waiting = partition.apply, [act]

    def applying(s: Services, run: Run, *rest: Any) -> int:
        while waiting:
            waiting.pop()()
        s.workspaces.drop(run.id)  # as after a crash
        return apply(s, run, *rest)

    monkeypatch.setattr(partition, "apply", applying)


# The guard


def test_a_plan_made_again_is_held_if_it_would_lose_more_than_was_judged(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_night(services)[0].state == "succeeded"
    embedded_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId == 5))
    before = pairs(embedded_tcs)
    before_applying(monkeypatch, lambda: embedded_tcs.execute(sa.delete(t.Placement)))
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "held", run.error
    assert "made again" in (run.error or "")
    assert pairs(embedded_tcs) == before


def test_the_approval_of_a_plan_made_again_covers_what_its_message_named(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_night(services)[0].state == "succeeded"
    embedded_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.trustId % 50 == 0))
    before_applying(monkeypatch, lambda: embedded_tcs.execute(sa.delete(t.Placement)))
    (held,) = run_job(services, TRUSTS, follow_ups=False)
    assert held.state == "held"
    assert "made again" in (held.error or "")
    approved = actions.approve(services, ACTOR, held.id)
    assert wait_for(services, approved.id)[0].state == "succeeded"
    assert pairs(embedded_tcs) == 0


def test_the_losses_of_all_partitions_are_judged_together_when_plans_are_made_again(
    settings: Settings, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = settings.model_copy(update={"partition_keys": 16, "guard_rows": 30})
    with working(split) as services:
        assert run_night(services)[0].state == "succeeded"
        embedded_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.trustId % 50 == 0))
        before = pairs(embedded_tcs)
        before_applying(monkeypatch, lambda: embedded_tcs.execute(sa.delete(t.Placement)))
        (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "held", run.error
    assert (run.partitions or 0) > 3
    assert pairs(embedded_tcs) >= before - 0.1 * (run.existing or 0) > 0


def test_a_plan_made_again_is_applied_if_it_loses_no_more_than_the_guard_allows(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_night(services)[0].state == "succeeded"
    right = embedded_tcs.rows(t.PersonTrust, "personId", "trustId")
    embedded_tcs.execute(sa.insert(t.PersonTrust).values(personId=5, trustId=999_999))
    before_applying(
        monkeypatch,
        lambda: embedded_tcs.execute(sa.insert(t.PersonTrust).values(personId=6, trustId=999_999)),
    )
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "succeeded", run.error
    assert embedded_tcs.rows(t.PersonTrust, "personId", "trustId") == right


def test_an_approval_covers_the_plan_that_was_shown_and_no_other(
    services: Services, embedded_tcs: World
) -> None:
    assert run_night(services)[0].state == "succeeded"
    complete = pairs(embedded_tcs)
    embedded_tcs.execute(sa.delete(t.Placement).where(t.Placement.c.traineeId % 3 == 0))
    (held,) = run_job(services, TRUSTS, follow_ups=False)
    assert held.state == "held"
    # The source loses other records than those that were shown.
    embedded_tcs.execute(sa.delete(t.Placement).where(t.Placement.c.traineeId % 3 == 1))
    (again,) = run_job(services, TRUSTS, follow_ups=False, approve=True)
    assert again.state == "held"
    assert "that were not in the approved plan" in (again.error or "")
    assert pairs(embedded_tcs) == complete
    (approved,) = run_job(services, TRUSTS, follow_ups=False, approve=True)
    assert approved.state == "succeeded", approved.error
    assert pairs(embedded_tcs) == complete - (again.removed or 0)


def test_a_plan_that_is_held_again_can_be_approved_again(
    services: Services, embedded_tcs: World
) -> None:
    assert run_night(services)[0].state == RunState.SUCCEEDED
    embedded_tcs.execute(sa.delete(t.Placement).where(t.Placement.c.traineeId % 2 == 0))
    held = run_job(services, TRUSTS)[0]
    assert held.state == RunState.HELD
    embedded_tcs.execute(sa.delete(t.Placement))
    again = wait_for(services, actions.approve(services, ACTOR, held.id).id)[0]
    assert again.state == RunState.HELD
    approved = wait_for(services, actions.approve(services, ACTOR, again.id).id)[0]
    assert approved.state == RunState.SUCCEEDED
    assert pairs(embedded_tcs) == 0


def test_there_must_be_a_held_plan_to_approve(services: Services) -> None:
    with pytest.raises(UsageError, match="has no held plan to approve"):
        request(services, TRUSTS, approve=True)


@pytest.mark.parametrize("job", [STATUS, "PostFundingStatusSyncJob"])
def test_a_status_that_would_change_for_many_records_is_held(
    services: Services, embedded_tcs: World, job: str
) -> None:
    if job == STATUS:
        embedded_tcs.execute(
            sa.update(t.ProgrammeMembership).values(programmeEndDate=TODAY - timedelta(days=1))
        )
        embedded_tcs.execute(sa.update(t.Person).values(status="CURRENT"))
    else:
        embedded_tcs.execute(
            sa.update(t.PostFunding).values(
                startDate=TODAY - timedelta(days=9), endDate=TODAY - timedelta(days=1)
            )
        )
        embedded_tcs.execute(sa.update(t.Post).values(fundingStatus="CURRENT"))
    (run,) = run_job(services, job, follow_ups=False)
    assert run.state == "held", run.error
    assert "would change" in (run.error or "")
    (run,) = run_job(services, job, follow_ups=False, approve=True)
    assert run.state == "succeeded", run.error


def test_a_changeover_that_replaces_documents_but_loses_nobody_is_not_held(
    services: Services, embedded_tcs: World
) -> None:
    """Most documents get another id, because their placements end and others begin."""
    (first,) = run_job(services, INDEX)
    placement = t.Placement
    ends, begins = TODAY - timedelta(days=1), TODAY
    is_current = sa.and_(placement.c.dateFrom <= TODAY, placement.c.dateTo >= TODAY)
    columns = [c for c in placement.columns if c.name not in {"id", "dateFrom", "dateTo"}]
    ending = [placement.c.id + 1_000_000, sa.literal(begins), sa.literal(begins), *columns]
    names = ["id", "dateFrom", "dateTo", *(c.name for c in columns)]
    embedded_tcs.execute(sa.update(placement).values(intrepidId=None))
    embedded_tcs.execute(
        sa.insert(placement).from_select(names, sa.select(*ending).where(is_current))
    )
    is_old = sa.and_(is_current, placement.c.id < 1_000_000)
    embedded_tcs.execute(sa.update(placement).where(is_old).values(dateTo=ends))
    (run,) = run_job(services, INDEX)
    assert run.state == "succeeded", run.error
    assert (run.added or 0) > 0.3 * (first.size or 0)
    assert run.size == first.size


def test_people_who_would_vanish_from_search_are_held(
    services: Services, embedded_tcs: World
) -> None:
    run_job(services, INDEX)
    embedded_tcs.execute(sa.delete(t.ContactDetails).where(t.ContactDetails.c.id % 4 == 0))
    (run,) = run_job(services, INDEX)
    assert run.state == "held"


# Builds


def test_a_retried_build_succeeds_although_the_source_has_changed(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "RETRY_SECONDS", (0.1,))
    write, failures = EmbeddedEngine.write, [1]

    def writing(
        engine: EmbeddedEngine, index: str, documents: Any, deletes: Any = None
    ) -> Delivery:
        delivery = write(engine, index, documents, deletes)
        if failures:
            failures.pop()
            embedded_tcs.execute(sa.delete(t.ContactDetails).where(t.ContactDetails.c.id == 7))
            raise DeliveryError("the server kept refusing documents")
        return delivery

    monkeypatch.setattr(EmbeddedEngine, "write", writing)
    requested = request(services, INDEX, Trigger.SCHEDULE)
    start_runs(services, [requested.id])
    (run,) = wait_for(services, requested.id)
    assert run.state == "succeeded", run.error
    assert services.history.phases(run.id).__len__() > 4  # it was tried twice
    folders = [path.name for path in (services.settings.home / "search").glob("persons-*")]
    assert len(folders) == 1


def test_a_partition_that_was_filled_twice_leads_to_a_new_build(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill in the middle of a partition: some documents are no longer desired."""
    write, stray = EmbeddedEngine.write, [1]

    def writing(
        engine: EmbeddedEngine, index: str, documents: Any, deletes: Any = None
    ) -> Delivery:
        delivery = write(engine, index, documents, deletes)
        if stray:
            stray.pop()
            body = '{"tisSync":{"sort":"x 999","terms":["x"]}}'
            extra = pl.DataFrame({"id": ["999"], "bucket": [62], "hash": [1], "body": [body]})
            write(engine, index, [extra])
        return delivery

    monkeypatch.setattr(EmbeddedEngine, "write", writing)
    (run,) = run_job(services, INDEX)
    assert run.state == "succeeded", run.error


# Dry runs, nights, and changes that arrive during a run


def test_a_dry_run_occupies_neither_the_schedule_nor_the_night(services: Services) -> None:
    dry = request(services, INDEX, dry_run=True)
    scheduled = requests.request_scheduled(services, INDEX)
    assert len(scheduled) == 1
    start_runs(services, [dry.id, *scheduled])
    assert wait_for(services, scheduled[0])[0].state == "succeeded"
    assert wait_for(services, dry.id)[0].options.dry_run
    waiting = request(services, INDEX, dry_run=True)
    night, *runs = run_night(services)
    assert night.state == "succeeded"
    assert waiting.id not in {run.id for run in runs}


def test_a_night_runs_every_job_itself_after_an_active_run(services: Services) -> None:
    active = request(services, INDEX)
    services.history.begin(active.id, services.clock())  # before the night's upstream jobs
    night = request_night(services, trigger=Trigger.START, requested_by="t", options=RunOptions())
    start_night(services, night.id)
    while not any(run.job == TRUSTS and not run.is_active
                  for run in services.history.children(night.id)):  # fmt: skip
        pass
    assert services.history.get(night.id).is_active
    start_runs(services, end_run(services, active.id, RunState.SUCCEEDED, None))
    night, *runs = wait_for(services, night.id)
    assert night.state == "succeeded"
    assert sorted(run.job for run in runs) == sorted(job.name for job in JOBS)
    assert {run.trigger for run in runs} == {Trigger.NIGHT}


def test_a_schedule_that_comes_during_a_run_starts_when_the_run_has_ended(
    services: Services,
) -> None:
    active = request(services, INDEX)
    services.history.begin(active.id, services.clock())
    assert requests.request_scheduled(services, INDEX) == []
    (following,) = end_run(services, active.id, RunState.SUCCEEDED, None)
    assert services.history.get(following).trigger == Trigger.SCHEDULE


def test_a_schedule_is_satisfied_by_a_run_that_has_not_begun(services: Services) -> None:
    active = request(services, INDEX)
    assert requests.request_scheduled(services, INDEX) == []
    assert end_run(services, active.id, RunState.SUCCEEDED, None) == []


# Every ending


@pytest.mark.parametrize("ending", ["cancelled", "orphaned"])
def test_however_a_run_ends_its_lock_build_and_follow_ups_are_settled(
    settings: Settings, embedded_tcs: World, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ORPHAN_SECONDS", -1.0)
    job, now = job_named(INDEX), NOW
    with working(settings.model_copy(update={"java_shedlock": True})) as services:
        run = request(services, INDEX)
        services.history.begin(run.id, services.clock())
        prepared = preparation.prepare(services, run.id, 0)
        building = build.begin_build(services, run.id, 0)
        partitions.fill_partition(services, run.id, 0, prepared.ranges[0], building)
        assert services.search().exists(PERSONS, building)
        rerun = Rerun(Trigger.FOLLOW_UP, "t")
        assert services.history.request_rerun(run.id, rerun)
        services.alarms.open(SLOW, INDEX, "slow.", services.clock(), run=run.id[:8])
        if ending == "cancelled":
            workflow.cancel(services, run.id)
        else:
            monkeypatch.setattr(DBOS, "get_workflow_status", lambda _: _Status("SUCCESS"))
            recovery.recover_runs(services)
        assert not services.history.get(run.id).is_active
        assert not services.search().exists(PERSONS, building)
        assert services.alarms.open_alarms() == [
            alarm for alarm in services.alarms.open_alarms() if alarm.kind == FAILED
        ]
        monkeypatch.undo()
        (following,) = services.history.children(run.id)
        assert wait_for(services, following.id)[0].state == "succeeded"
    later = now + timedelta(minutes=2)
    assert shedlock.take(embedded_tcs.database, job.lock_name, "java", later, timedelta(1)) is None


class _Status:
    def __init__(self, status: str) -> None:
        self.status = status


def test_what_could_not_be_cleared_away_at_the_end_is_cleared_away_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request(services, INDEX)
    services.history.begin(run.id, services.clock())
    building = build.begin_build(services, run.id, 0)

    def refused(*_: object) -> None:
        raise DeliveryError("does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedEngine, "drop", refused)
        workflow.cancel(services, run.id)
    assert services.search().exists(PERSONS, building)
    recovery.recover_runs(services)
    assert not services.search().exists(PERSONS, building)
    assert services.history.to_clean_up() == []


def test_a_cancelled_run_is_resumed_with_a_new_build(services: Services) -> None:
    run = request(services, INDEX)
    services.history.begin(run.id, services.clock())
    first = build.begin_build(services, run.id, 0)
    workflow.cancel(services, run.id)
    workflow.resume(services, run.id)
    assert wait_for(services, run.id)[0].state == "succeeded"
    live = services.search().live(PERSONS)
    assert live is not None
    assert live.name != first


def test_a_resumed_rebuild_keeps_the_index_that_it_has_published_already(
    services: Services,
) -> None:
    run = request(services, INDEX, rebuild=True)
    services.history.begin(run.id, services.clock())
    published = build.begin_build(services, run.id, 0)
    services.search().publish(PERSONS, published)
    workflow.cancel(services, run.id)
    services.history.reopen(run.id, run.as_of)
    building = build.begin_build(services, run.id, 1)
    assert building != published
    live = services.search().live(PERSONS)
    assert live is not None
    assert live.name == published


def test_a_step_that_takes_the_lock_while_its_run_is_cancelled_has_it_freed_later(
    settings: Settings, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, later = job_named(INDEX).lock_name, NOW + timedelta(minutes=2)
    with working(settings.model_copy(update={"java_shedlock": True})) as services:
        run = request(services, INDEX)
        services.history.begin(run.id, services.clock())
        take = shedlock.take

        def cancelled_before(*given: Any) -> Any:
            monkeypatch.undo()
            workflow.cancel(services, run.id)
            return take(*given)

        monkeypatch.setattr(shedlock, "take", cancelled_before)
        job_lock.hold_java_lock(services, services.history.get(run.id))
        assert shedlock.take(embedded_tcs.database, lock, "java", later, timedelta(1)) is not None
        recovery.recover_runs(services)
    assert shedlock.take(embedded_tcs.database, lock, "java", later, timedelta(1)) is None


# The lock of the Java service


def test_each_step_of_a_resumed_run_takes_the_lock_again(
    settings: Settings, embedded_tcs: World
) -> None:
    job = job_named(TRUSTS)
    with working(settings.model_copy(update={"java_shedlock": True})) as services:
        run = request(services, TRUSTS)
        services.history.begin(run.id, services.clock())
        prepared = preparation.prepare(services, run.id, 0)
        shedlock.release(embedded_tcs.database, job.lock_name, run.lock_owner, services.clock())
        later = services.clock() + timedelta(seconds=1)
        assert _take(embedded_tcs, job.lock_name, later) is None  # the Java service has it now
        with pytest.raises(LockedError, match="java-host"):
            partitions.plan_partition(services, run.id, 0, prepared.ranges[0], None)
        workflow.cancel(services, run.id)


def test_a_long_run_prolongs_its_lock(settings: Settings, embedded_tcs: World) -> None:
    clock = Clock()
    job = job_named(TRUSTS)
    with working(settings.model_copy(update={"java_shedlock": True}), clock) as services:
        run = request(services, TRUSTS)
        services.history.begin(run.id, clock())
        preparation.prepare(services, run.id, 0)
        for _ in range(5):
            clock.forward(minutes=30)
            job_lock.prolong_java_locks(services)
        clock.forward(minutes=30)
        assert _take(embedded_tcs, job.lock_name, clock()) is not None
        workflow.cancel(services, run.id)
        job_lock.prolong_java_locks(services)
        clock.forward(minutes=1)
        assert _take(embedded_tcs, job.lock_name, clock()) is None


def test_a_command_that_works_prolongs_the_lock_of_a_long_step(
    settings: Settings, embedded_tcs: World
) -> None:
    clock = Clock()
    lock = job_named(TRUSTS).lock_name
    changes = {"java_shedlock": True, "heartbeat_seconds": 0.1}
    with command_session(settings.model_copy(update=changes), clock=clock) as services:
        run = request(services, TRUSTS)
        services.history.begin(run.id, clock())
        preparation.prepare(services, run.id, 0)
        ((_, before),) = embedded_tcs.rows(t.Shedlock, "name", "lock_until")
        clock.forward(minutes=30)
        eventually(lambda: embedded_tcs.rows(t.Shedlock, "lock_until") > [(before,)], 10)
        clock.forward(minutes=45)
        assert _take(embedded_tcs, lock, clock()) is not None
        workflow.cancel(services, run.id)


def _take(world: World, name: str, now: Any) -> tuple[str, Any] | None:
    return shedlock.take(world.database, name, "java-host", now, timedelta(hours=1))


# Days in the past


def test_a_run_for_a_past_day_neither_moves_the_catch_up_nor_counts_as_the_scheduled_run(
    settings: Settings,
) -> None:
    clock = Clock()
    with working(settings, clock) as services:
        (first,) = run_job(services, STATUS, follow_ups=False, date="ANY", approve=False)
        if first.state == "held":
            (first,) = run_job(services, STATUS, follow_ups=False, date="ANY", approve=True)
        assert first.state == "succeeded", first.error
        clock.forward(days=2)
        services.alarms.open(OVERDUE, STATUS, "It was due.", clock(), impact="people")
        (past,) = run_job(services, STATUS, follow_ups=False, date="2025-12-01")
        assert past.state == "succeeded", past.error
        assert [alarm.kind for alarm in services.alarms.open_alarms()] == [OVERDUE]
        last = services.history.last_success(STATUS)
        assert last is not None
        assert last.id == first.id
        (usual,) = run_job(services, STATUS, follow_ups=False)
        assert (usual.as_of.first, usual.as_of.last) == (
            TODAY + timedelta(days=1),
            TODAY + timedelta(days=2),
        )
        assert services.alarms.open_alarms() == []


def test_a_given_day_counts_if_it_follows_the_days_that_are_covered(settings: Settings) -> None:
    clock = Clock()
    with working(settings, clock) as services:
        run_job(services, STATUS, follow_ups=False)
        clock.forward(days=3)
        for day, until in (("2026-03-04", "2026-03-02"), ("2026-03-03", "2026-03-03")):
            run_job(services, STATUS, follow_ups=False, date=day)
            assert str(services.history.covered_until(STATUS)) == until


def test_partitions_are_applied_in_transactions_that_end_with_the_fence(
    embedded_tcs: World,
) -> None:
    """What a worker writes after it was taken over is rolled back."""
    embedded_tcs.fill({"PersonOwner": []})
    from tis_sync.jobs.person_owner import PERSON_OWNER
    from tis_sync.reconcile.table_plan import difference
    from tis_sync.state.liveness import TakenOverError

    def lost() -> None:
        raise TakenOverError

    spec = PERSON_OWNER.target.spec
    rows = pl.LazyFrame({"id": [1], "owner": ["N"], "rule": ["P1"]})
    plan = difference(spec, rows, rows.clear())  # type: ignore[arg-type]
    with pytest.raises(TakenOverError):
        table_apply.apply(embedded_tcs.database, spec, plan, lost, LOCKS)  # type: ignore[arg-type]
    assert embedded_tcs.rows(t.PersonOwner, "id") == []
