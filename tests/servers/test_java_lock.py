"""While the Java service is in use, a job takes the lock row, and does not run if it is held."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.settings.model import Settings
from tis_sync.tcs import shedlock
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
LOCK = "personOwnerRebuildScheduledTask"


def test_a_job_that_the_java_service_runs_is_not_run_here(tcs: World, tmp_path: Path) -> None:
    demo.generate(tcs.database, demo.Size(50), TODAY, legacy_tables)
    settings = Settings(home=tmp_path, tcs_url=tcs.url, java_shedlock=True)
    shedlock.take(tcs.database, LOCK, "java-host", NOW, timedelta(hours=2))
    with working(settings) as services:
        (run,) = run_job(services, "PersonOwnerRebuildJob", follow_ups=False)
        assert run.state == "failed"
        assert "Already running" in (run.error or "")
        assert "java-host" in (run.error or "")
        assert services.alarms.open_alarms() == []  # the Java service does the work
        shedlock.release(tcs.database, LOCK, "java-host", NOW)
        (run,) = run_job(services, "PersonOwnerRebuildJob", follow_ups=False)
        assert run.state == "succeeded"
    ((name, holder),) = tcs.rows(t.Shedlock, "name", "locked_by")
    assert (name, holder.startswith("tis-sync ")) == (LOCK, True)
    assert shedlock.take(tcs.database, LOCK, "java-host", NOW + timedelta(minutes=1),
                         timedelta(hours=1)) is None  # fmt: skip
