"""Carry out runs inside a test, as `tis-sync run` and `tis-sync night` do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from tests.conftest import NOW
from tests.waiting import eventually
from tis_sync.app import session
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.request import request_night, request_run
from tis_sync.runs.run import Run, RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

TIMEOUT_SECONDS = 120.0


def ticking(since: datetime) -> Callable[[], datetime]:
    """A clock that shows `since` now, and advances from there."""
    started = time.monotonic()
    return lambda: since + timedelta(seconds=time.monotonic() - started)


@contextmanager
def working(
    settings: Settings, clock: Callable[[], datetime] | None = None, *, scheduler: bool = False
) -> Iterator[Services]:
    """A session; its clock shows the day of the tests unless another is given."""
    clock = clock or ticking(NOW)
    with session(settings, clock=clock, scheduler=scheduler) as services:
        yield services


def wait_for(services: Services, run_id: str) -> list[Run]:
    """Wait until a run and everything that follows it have ended; return them, oldest first."""

    def family() -> list[Run]:
        return services.history.family(run_id)

    eventually(lambda: not any(run.is_active for run in family()), TIMEOUT_SECONDS, family)
    return family()


def run_job(services: Services, name: str, **options: object) -> list[Run]:
    """Run a job manually; return the run and those that followed."""
    requested = request_run(
        services,
        job_named(name),
        trigger=Trigger.MANUAL,
        requested_by="test",
        options=RunOptions(**options),  # type: ignore[arg-type]
    )
    start_runs(services, [requested.id])
    return wait_for(services, requested.id)


def run_night(services: Services, **options: object) -> list[Run]:
    """Run the night; return the night and its runs."""
    night = request_night(
        services,
        trigger=Trigger.MANUAL,
        requested_by="test",
        options=RunOptions(**options),  # type: ignore[arg-type]
    )
    start_night(services, night.id)
    return wait_for(services, night.id)
