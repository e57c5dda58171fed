"""Cancelling and resuming runs in one process."""

from pathlib import Path

import pytest

from tests.conftest import TODAY
from tests.running import run_night, wait_for, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.errors import UsageError
from tis_sync.execution import workflow
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.settings.model import Settings


def test_a_run_that_was_cancelled_before_it_was_queued_can_be_resumed(
    embedded_tcs: World, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(50), TODAY)
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url)) as services:
        run = request_run(
            services,
            PERSON_OWNER,
            trigger=Trigger.MANUAL,
            requested_by="test",
            options=RunOptions(follow_ups=False),
        )
        assert workflow.cancel(services, run.id).state == RunState.CANCELLED
        assert workflow.resume(services, run.id).state == RunState.QUEUED
        assert [run.state for run in wait_for(services, run.id)] == [RunState.SUCCEEDED]


def test_an_ended_run_cannot_be_cancelled_and_a_night_cannot_be_resumed(
    embedded_tcs: World, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(50), TODAY)
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url)) as services:
        night = run_night(services)[0]
        with pytest.raises(UsageError, match="there is nothing to cancel"):
            workflow.cancel(services, night.id)
        with pytest.raises(UsageError, match="A night cannot be resumed"):
            workflow.resume(services, night.id)
