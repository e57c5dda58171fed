"""Commands whose workflow has ended before they did: they begin again, or are dead."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from tests.conftest import Clock
from tests.exporting import check_consistency, export, start, wait_until_ended
from tests.running import working
from tests.starters import starters
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import EXPORT_FAILED
from tis_sync.durable.model import MOST_RECOVERIES
from tis_sync.errors import TisSyncError
from tis_sync.esr.export import workflow
from tis_sync.esr.export.commands import Command, Commands, CommandState, workflow_prefix
from tis_sync.esr.export.workflow import recover_commands, start_commands
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", tcs_url=embedded_tcs.url)


def test_a_command_whose_workflow_ended_without_it_is_dead_and_can_be_retried(
    settings: Settings, embedded_tcs: World
) -> None:
    """As if its process had died between the two."""
    embedded_tcs.fill(starters(2, ("WES",)))
    clock = Clock()
    with working(settings, clock) as s:
        (command,) = export(s, "WES")
        state = sa.update(t.command).where(t.command.c.id == command.id)
        with s.state.write() as connection:
            connection.execute(state.values(state=CommandState.RUNNING, finished_at=None))
        clock.forward(minutes=1)
        recover_commands(s)
        (dead,) = Commands(s.state).many([command.id])
        assert dead.state == CommandState.DEAD
        assert "before the command did" in (dead.error or "")
        start_commands(s, [Commands(s.state).revive(command.id)])
        assert [c.state for c in wait_until_ended(s, [command.id])] == [CommandState.DONE]
        check_consistency(s, embedded_tcs)


@pytest.mark.parametrize(
    ("name", "failures", "state"), [("retry_waits", 1, "queued"), ("end_command", 2, "running")]
)
def test_a_command_whose_workflow_ended_with_an_error_begins_again(
    settings: Settings, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch, name: str,
    failures: int, state: str,
) -> None:  # fmt: skip
    embedded_tcs.fill(starters(2, ("WES",)))
    clock = Clock()
    failing(monkeypatch, name, failures)
    with working(settings, clock) as s:
        command = start(s, "WES")
        workflows_failed(command, 1)
        assert Commands(s.state).get(command.id).state == state
        clock.forward(minutes=1)
        recover_commands(s)
        assert [c.state for c in wait_until_ended(s, [command.id])] == [CommandState.DONE]
        assert s.alarms.open_alarms(EXPORT_FAILED) == []
        check_consistency(s, embedded_tcs)


def test_a_command_whose_workflow_ends_with_an_error_each_time_is_dead(
    settings: Settings, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_tcs.fill(starters(2, ("WES",)))
    clock = Clock()
    failing(monkeypatch, "retry_waits", 100)
    with working(settings, clock) as s:
        command = start(s, "WES")
        clock.forward(minutes=1)
        for number in range(MOST_RECOVERIES + 1):
            workflows_failed(command, number + 1)
            recover_commands(s)
        assert Commands(s.state).get(command.id).state == CommandState.DEAD
        assert [alarm.kind for alarm in s.alarms.open_alarms()] == [EXPORT_FAILED]


def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let a step fail at first, with an error after which nothing is retried."""
    act, failures = getattr(workflow, name), iter(range(times))

    def failing_at_first(*given: Any) -> Any:
        if next(failures, None) is not None:
            raise TisSyncError("The state database does not allow that.")
        return act(*given)

    monkeypatch.setattr(workflow, name, failing_at_first)


def workflows_failed(command: Command, number: int) -> None:
    """Wait until so many workflows of a command have ended, all with an error."""

    def have_failed() -> bool:
        found = DBOS.list_workflows(workflow_id_prefix=workflow_prefix(command.id))
        return [row.status for row in found] == ["ERROR"] * number

    eventually(have_failed)
