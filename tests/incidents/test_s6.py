"""S6, 2024-01-08: the index was built from half-filled link tables and looked complete."""

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.running import run_job, run_night, wait_for, working
from tests.world import World
from tis_sync.alarms.catalogue import FAILED
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.execution.workflow import start_runs
from tis_sync.jobs.catalogue import JOBS, job_named, upstream
from tis_sync.runs.request import request_run
from tis_sync.runs.run import Rerun, RunOptions, Trigger
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

TRUSTS = "PersonPlacementEmployingBodyTrustJob"
INDEX = "PersonElasticSearchSyncJob"


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(400), TODAY, legacy_tables)
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def test_in_a_night_each_job_starts_after_the_jobs_it_builds_on(settings: Settings) -> None:
    with working(settings) as services:
        night, *runs = run_night(services)
    assert night.state == "succeeded"
    by_job = {run.job: run for run in runs}
    for job in JOBS:
        for name in upstream(job):
            ended, began = by_job[name].finished_at, by_job[job.name].started_at
            assert ended is not None
            assert began is not None
            assert ended <= began, (name, job.name)


def test_a_job_waits_for_its_dependencies_however_long_they_take(settings: Settings) -> None:
    with working(settings) as services:
        slow = request_run(
            services,
            job_named(TRUSTS),
            trigger=Trigger.MANUAL,
            requested_by="t",
            options=RunOptions(),
        )
        waiting = request_run(
            services,
            job_named(INDEX),
            trigger=Trigger.SCHEDULE,
            requested_by="t",
            options=RunOptions(),
        )
        start_runs(
            services, [waiting.id]
        )  # first, and alone: the job before it has not even started
        time.sleep(1.0)
        assert services.history.get(waiting.id).state == "queued"
        start_runs(services, [slow.id])
        wait_for(services, slow.id)
        (run,) = [r for r in wait_for(services, waiting.id) if r.id == waiting.id]
        assert run.state == "succeeded"
        assert run.started_at is not None
        ended = services.history.get(slow.id).finished_at
        assert ended is not None
        assert ended <= run.started_at


def test_when_a_job_fails_the_jobs_that_build_on_it_are_not_run_and_say_why(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as services:
        assert run_night(services)[0].state == "succeeded"
        embedded_tcs.execute("ALTER TABLE PersonTrust RENAME COLUMN trustId TO other")
        night, *runs = run_night(services)
        states = {run.job: (run.state, run.error) for run in runs}
        assert night.state == "failed"
        assert states[TRUSTS][0] == "failed"
        assert "PersonTrust.trustId is missing" in (states[TRUSTS][1] or "")
        assert states[INDEX][0] == "cancelled"
        assert "not run, because" in (states[INDEX][1] or "")
        assert states["PostElasticSearchSyncJob"][0] == "succeeded"
        embedded_tcs.execute("ALTER TABLE PersonTrust RENAME COLUMN other TO trustId")
        assert run_night(services)[0].state == "succeeded"
        assert services.alarms.open_alarms() == []


def test_an_index_of_unusual_size_raises_an_alarm_before_it_is_published(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings.model_copy(update={"guard_share": 0.9})) as services:
        for _ in range(3):
            (run,) = run_job(services, INDEX, rebuild=True)
            assert run.state == "succeeded"
        embedded_tcs.execute(sa.delete(t.ContactDetails).where(t.ContactDetails.c.id % 3 == 0))
        (run,) = run_job(services, INDEX, rebuild=True)
        assert run.state == "succeeded"
        (alarm,) = services.alarms.open_alarms()
        assert (alarm.kind.name, alarm.subject) == ("unusual size", INDEX)
        assert "usually" in alarm.text
        published = [line for line in services.history.lines(run.id) if "published" in line.text]
        assert alarm.raised_at <= published[0].at


def test_an_index_that_shrinks_too_much_is_held_and_the_old_one_stays_in_use(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings.model_copy(update={"guard_rows": 10})) as services:
        (first,) = run_job(services, INDEX)
        embedded_tcs.execute(sa.delete(t.ContactDetails).where(t.ContactDetails.c.id % 3 == 0))
        for options in ({"rebuild": True}, {}):
            (run,) = run_job(services, INDEX, **options)
            assert run.state == "held", run.error
        live = services.search().live(job_named(INDEX).target.spec)  # type: ignore[arg-type]
        assert live is not None
        assert live.documents == first.added
        assert {a.kind.name for a in services.alarms.open_alarms()} == {"held"}
        (run,) = run_job(services, INDEX, approve=True)
        assert run.state == "succeeded"
        assert services.alarms.open_alarms() == []


def test_follow_ups_are_requested_before_the_run_ends(
    settings: Settings, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(settings) as services:
        assert run_night(services)[0].state == "succeeded"
        embedded_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId == 5))
        end, asked = services.history.end, dict[str, set[str]]()
        services.alarms.open(
            FAILED,
            TRUSTS,
            "it failed before",
            services.clock(),
            impact="people are missing from search",
        )
        open_then = list[str]()

        def ending(run_id: str, *given: Any, **options: Any) -> None:
            children = services.history.children(run_id)
            asked[services.history.get(run_id).job] = {child.job for child in children}
            open_then.extend(alarm.subject for alarm in services.alarms.open_alarms())
            end(run_id, *given, **options)

        monkeypatch.setattr(services.history, "end", ending)
        run_job(services, TRUSTS)
    assert asked[TRUSTS] == set(job_named(TRUSTS).follow_ups)
    assert open_then == []  # alarms too are closed before


def test_a_rerun_requested_during_a_run_follows_even_a_dry_run(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as services:
        dry = request_run(
            services,
            job_named(INDEX),
            trigger=Trigger.MANUAL,
            requested_by="t",
            options=RunOptions(dry_run=True),
        )
        assert services.history.request_rerun(dry.id, Rerun(Trigger.FOLLOW_UP, "t"))
        start_runs(services, [dry.id])
        first, second = wait_for(services, dry.id)
    assert (first.options.dry_run, second.options.dry_run) == (True, False)
    assert (second.job, second.state) == (INDEX, "succeeded")


def test_a_change_reaches_the_index_automatically(settings: Settings, embedded_tcs: World) -> None:
    with working(settings) as services:
        assert run_night(services)[0].state == "succeeded"
        embedded_tcs.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId == 5))
        runs = run_job(services, TRUSTS)
        assert runs[0].job == TRUSTS
        assert {run.job for run in runs[1:]} >= {"PersonPlacementTrainingBodyTrustJob", INDEX}
        assert {run.state for run in runs} == {"succeeded"}
