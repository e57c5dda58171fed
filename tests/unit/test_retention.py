"""Retention: what is older than the setting is deleted, whoever runs the program, and however."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS

from tests.conftest import NOW, TODAY, Clock
from tests.running import run_job, wait_for, working
from tests.waiting import eventually
from tests.world import World
from tis_sync import actions, audit, retention
from tis_sync.alarms.catalogue import FAILED
from tis_sync.audit import Actor, Channel
from tis_sync.demo import generate as demo
from tis_sync.durable.tables import client, prune_workflows
from tis_sync.errors import TisSyncError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.execution import workflow
from tis_sync.jobs.base import AsOf
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.web.auth import sessions
from tis_sync.web.auth.identity import LOCAL
from tis_sync.web.auth.oidc import Person

JOB = "PersonOwnerRebuildJob"
ANN = Actor("ann", Channel.LOCAL)


def fill(services: Services) -> None:
    """A failed run and a line of the audit log, old ones and recent ones."""
    for days in (500, 10):
        moment = NOW - timedelta(days=days)
        run = services.history.request(
            "PersonOwnerRebuildJob",
            trigger=Trigger.MANUAL,
            requested_by="ann",
            as_of=AsOf.on(TODAY),
            options=RunOptions(),
            now=moment,
        )
        services.history.end(run.id, RunState.FAILED, moment)
        audit.record(services.state, moment, ANN, "run", f"{days} days ago", audit.DONE)


def remaining(services: Services) -> tuple[int, list[str]]:
    subjects = [entry.subject for entry in audit.entries(services.state)]
    return len(services.history.recent()), subjects


def test_old_runs_and_audit_entries_are_deleted_and_recent_ones_stay(
    tmp_path: Path, clock: Clock
) -> None:
    services = Services(Settings(home=tmp_path), clock)
    fill(services)
    assert retention.prune(services) == 2
    assert remaining(services) == (1, ["10 days ago"])
    services.close()


def test_a_worker_prunes_when_it_starts(tmp_path: Path, clock: Clock) -> None:
    settings = Settings(home=tmp_path, night_start_hours=(0, 0), esr=False)
    services = Services(settings, clock)
    fill(services)
    services.close()
    with working(settings, clock, scheduler=True) as working_services:
        assert remaining(working_services) == (1, ["10 days ago"])


def workflows(settings: Settings) -> dict[str, str]:
    """The status of each workflow in DBOS's tables, by id."""
    with client(settings) as dbos:
        found = dbos.list_workflows(load_input=False, load_output=False)
    return {w.workflow_id: w.status for w in found}


def rows_of_dbos(settings: Settings) -> dict[str, int]:
    """The rows of DBOS's tables that grow with each workflow."""
    engine = sa.create_engine(settings.dbos())
    schema = None if settings.embedded_state else "dbos"
    names = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
    with engine.connect() as connection:
        counts = {
            name: connection.scalar(
                sa.select(sa.func.count()).select_from(sa.table(name, schema=schema))
            )
            for name in names
        }
    engine.dispose()
    return {name: count or 0 for name, count in counts.items()}


@pytest.fixture(
    params=["embedded", pytest.param("postgresql", marks=pytest.mark.servers)],
)
def settings(request: pytest.FixtureRequest, embedded_tcs: World, tmp_path: Path) -> Settings:
    """200 people in TCS; workflows are kept no longer than they are needed."""
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY)
    return Settings(
        home=tmp_path / "home",
        tcs_url=embedded_tcs.url,
        state_url=request.getfixturevalue("postgresql") if request.param != "embedded" else None,
        night_start_hours=(0, 0),
        esr=False,
        partition_keys=80,
        workflow_days=0,
    )


def test_the_records_of_finished_workflows_are_deleted_with_everything_that_belongs_to_them(
    settings: Settings,
) -> None:
    with working(settings) as services:
        run_job(services, JOB, follow_ups=False)
        assert len(workflows(settings)) > 3  # the run, and two phases of its partitions
        prune_finished(services)
        assert workflows(settings) == {}
        assert set(rows_of_dbos(settings).values()) == {0}
        (again,) = run_job(services, JOB, follow_ups=False)
        assert again.state == RunState.SUCCEEDED


def prune_finished(services: Services) -> None:
    """Prune when every workflow has ended, which is a moment later than its run."""
    eventually(lambda: set(workflows(services.settings).values()) == {"SUCCESS"}, 20)
    time.sleep(0.01)  # DBOS counts in milliseconds
    retention.prune(services)


def test_what_recovery_needs_is_kept(settings: Settings) -> None:
    """Cancel a run between its partitions, and resume it after the retention."""
    with working(settings) as services:
        gate = services.partition_slots
        for _ in range(settings.partitions_at_once):
            gate.acquire()
        run = actions.run_job(services, ANN, job_named(JOB), RunOptions(follow_ups=False))
        eventually(lambda: len(workflows(settings)) > 1, 20)
        retention.prune(services)
        assert workflows(settings)[run.id] == "PENDING"
        assert len(workflows(settings)) > 1
        workflow.cancel(services, run.id)
        for _ in range(settings.partitions_at_once):
            gate.release()
        eventually(lambda: "PENDING" not in workflows(settings).values(), 20)
        before = workflows(settings)
        assert before[run.id] == "CANCELLED"
        retention.prune(services)
        assert workflows(settings) == before
        workflow.resume(services, run.id)
        (resumed,) = wait_for(services, run.id)
        assert resumed.state == RunState.SUCCEEDED


def test_a_cancelled_workflow_is_deleted_when_its_run_is_too_old_to_be_resumed(
    settings: Settings,
) -> None:
    with working(settings) as services:
        run = actions.run_job(services, ANN, job_named(JOB), RunOptions(follow_ups=False))
        workflow.cancel(services, run.id)
        eventually(lambda: "PENDING" not in workflows(settings).values(), 20)
    far = utc_now() + timedelta(days=1)
    assert prune_workflows(settings, finished_before=far, cancelled_before=far) > 0
    assert workflows(settings) == {}


def test_a_repeated_request_does_not_start_a_run_again_whose_workflow_is_deleted(
    settings: Settings,
) -> None:
    with working(settings) as services:
        options = RunOptions(follow_ups=False)
        run = actions.run_job(services, ANN, job_named(JOB), options, key="once")
        wait_for(services, run.id)
        prune_finished(services)
        assert actions.run_job(services, ANN, job_named(JOB), options, key="once").id == run.id
        assert workflows(settings) == {}


def test_the_schedule_of_the_retention_is_registered_and_prunes(settings: Settings) -> None:
    with working(settings, scheduler=True) as services:
        fill(services)
        DBOS.trigger_schedule(retention.SCHEDULE.name)
        eventually(lambda: remaining(services) == (1, ["10 days ago"]), 20)


def test_samples_of_dry_runs_closed_alarms_and_expired_sessions_are_deleted(
    tmp_path: Path, clock: Clock
) -> None:
    services = Services(Settings(home=tmp_path), clock)
    for days in (8, 6):
        moment = NOW - timedelta(days=days)
        run = services.history.request(
            JOB,
            trigger=Trigger.MANUAL,
            requested_by="ann",
            as_of=AsOf.on(TODAY),
            options=RunOptions(dry_run=True),
            now=moment,
        )
        services.history.add_sample(run.id, {"added": [{"id": days}]}, 5)
        services.history.end(run.id, RunState.SUCCEEDED, moment)
    for days in (500, 10):
        moment = NOW - timedelta(days=days)
        services.alarms.open(FAILED, f"{days} days ago", "", moment, impact="")
        services.alarms.close(FAILED, f"{days} days ago", moment)
    services.alarms.open(FAILED, "still open", "", NOW - timedelta(days=500), impact="")
    yesterday = NOW - timedelta(days=1)
    person = Person(LOCAL, "subject", None)
    sessions.open_session(services.state, person, timedelta(hours=1), yesterday, yesterday)
    retention.prune(services)
    samples = [run.detail.sample for run in services.history.recent()]
    assert samples == [{"added": [{"id": 6}]}, {}]
    with services.state.read() as connection:
        subjects = set(connection.scalars(sa.select(t.alarm.c.subject)))
        assert subjects == {"10 days ago", "still open"}
        assert (
            connection.scalar(sa.select(sa.func.count()).select_from(sa.table("web_session"))) == 0
        )
    services.close()


def test_export_commands_that_are_done_are_deleted_and_dead_ones_stay(
    tmp_path: Path, clock: Clock
) -> None:
    services = Services(Settings(home=tmp_path), clock)
    commands = Commands(services.state)
    for days, state in (
        (500, CommandState.DONE),
        (500, CommandState.DEAD),
        (10, CommandState.DONE),
    ):
        moment = NOW - timedelta(days=days)
        command = commands.request(
            file_type=FileType.APP,
            deanery="KSS",
            day=moment.date(),
            trigger=Trigger.MANUAL,
            requested_by="ann",
            now=moment,
            new=True,
        )
        commands.end(command.id, state, moment)
    assert retention.prune(services) == 1
    left = {(c.state, (NOW - c.created_at).days) for c in commands.recent(10)}
    assert left == {(CommandState.DEAD, 500), (CommandState.DONE, 10)}
    services.close()


def test_a_part_that_fails_does_not_stop_the_others_and_is_reported(
    tmp_path: Path, clock: Clock
) -> None:
    services = Services(Settings(home=tmp_path), clock)
    fill(services)
    with services.state.write() as connection:
        connection.execute(sa.text("DROP TABLE web_session"))
    with pytest.raises(TisSyncError, match=r"sessions \(OperationalError\)"):
        retention.prune(services)
    assert remaining(services) == (1, ["10 days ago"])
    services.close()
