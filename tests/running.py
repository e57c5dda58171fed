"""Carry out runs inside a test, as `tis-sync run` and `tis-sync night` do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from tests.conftest import NOW
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.ask import ask, ask_for_night
from tis_sync.runs.run import Options, Run
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.runs.workflows import start, start_night
from tis_sync.settings import Settings

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 120.0


def ticking(since: datetime) -> Callable[[], datetime]:
    """A clock that shows `since` now, and goes on from there."""
    started = time.monotonic()
    return lambda: since + timedelta(seconds=time.monotonic() - started)


@contextmanager
def working(
    settings: Settings, clock: Callable[[], datetime] | None = None, *, scheduler: bool = False
) -> Iterator[Services]:
    """A session; on the day of the tests unless told otherwise."""
    clock = clock or ticking(NOW)
    with session(settings, clock=clock, scheduler=scheduler) as services:
        yield services


def wait_for(services: Services, run_id: str) -> list[Run]:
    """Wait until a run, and all that follows it, has ended; the family, oldest first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(run.is_active for run in services.history.family(run_id)):
        assert time.monotonic() < deadline, services.history.family(run_id)
        time.sleep(POLL_SECONDS)
    return services.history.family(run_id)


def run_job(services: Services, name: str, **options: object) -> list[Run]:
    """Run a job by hand; it, and what followed."""
    asked = ask(
        services,
        job_named(name),
        trigger="manual",
        who="test",
        options=Options(**options),  # type: ignore[arg-type]
    )
    start([asked.id])
    return wait_for(services, asked.id)


def run_night(services: Services, **options: object) -> list[Run]:
    """Run the night; it, and its runs."""
    night = ask_for_night(
        services,
        trigger="manual",
        who="test",
        options=Options(**options),  # type: ignore[arg-type]
    )
    start_night(night.id)
    return wait_for(services, night.id)
