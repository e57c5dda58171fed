"""Retention: what is older than the setting is deleted, whoever runs the program, and however."""

from datetime import timedelta
from pathlib import Path

from tests.conftest import NOW, TODAY, Clock
from tests.running import working
from tis_sync import audit, retention
from tis_sync.audit import Actor, Channel
from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings import Settings

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
