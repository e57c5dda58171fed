"""Runs over the synthetic TCS of the demo: 300 people, and a guard that allows ten losses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TODAY
from tests.running import working
from tests.world import World
from tis_sync.audit import Actor, Channel
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.request import request_run
from tis_sync.runs.run import Run, RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

TRUSTS, INDEX = "PersonPlacementEmployingBodyTrustJob", "PersonElasticSearchSyncJob"
STATUS = "PersonRecordStatusJob"
ACTOR = Actor("ann", Channel.LOCAL)


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(300), TODAY, legacy_tables)
    return Settings(home=tmp_path / "home", tcs_url=embedded_tcs.url, guard_rows=10)


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with working(settings) as services:
        yield services


def request(s: Services, job: str, trigger: Trigger = Trigger.MANUAL, **options: Any) -> Run:
    return request_run(
        s, job_named(job), trigger=trigger, requested_by="t", options=RunOptions(**options)
    )
