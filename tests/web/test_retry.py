"""What failed permanently is retried from the page and by API."""

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.consuming import consumer
from tests.exporting import ended, export
from tests.running import working
from tests.starters import starters
from tests.waiting import eventually
from tests.web.conftest import console
from tests.world import World
from tis_sync.esr.export.commands import Commands
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.topology import APP_COMMANDS
from tis_sync.settings.model import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The destination: a file in the place of the folder."""
    path = tmp_path / "out"
    path.write_text("")
    return path


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path, folder: Path) -> Settings:
    embedded_tcs.fill(starters(1))
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url, export_url=f"file://{folder}")


def test_a_dead_command_is_retried_from_the_page(settings: Settings, folder: Path) -> None:
    with working(settings) as s, console(s) as call:
        (dead,) = export(s, "WES")
        page = call("GET", "/esr").text
        assert "Failed permanently" in page
        assert f"/sync/esr/commands/{dead.id}/retry" in page
        (alarm,) = call("GET", "/api/v1/alarms").json
        assert alarm["kind"] == "export failed"
        folder.unlink()
        assert call("POST", f"/esr/commands/{dead.id}/retry", form={}).status == 303
        (done,) = ended(s, [dead.id])
        assert done.state == "done"
        assert "Failed permanently" not in call("GET", "/esr").text
        assert call("POST", f"/api/v1/esr/commands/{dead.id}/retry").status == 400
        assert call("POST", "/api/v1/esr/commands/none/retry").status == 404


def test_all_dead_commands_are_retried_with_one_button(settings: Settings, folder: Path) -> None:
    with working(settings) as s, console(s) as call:
        dead = export(s, "WES", "LDN", "MER")
        assert {command.state for command in dead} == {"dead"}
        assert "Retry all 3 commands" in call("GET", "/esr").text
        folder.unlink()
        assert call("POST", "/esr/commands/retry", form={}).status == 303
        found = ended(s, [command.id for command in dead])
        assert {command.state for command in found} == {"done"}
        assert call("POST", "/api/v1/esr/commands/retry").json == []
        assert call("POST", "/api/v1/esr/dead-letters/retry").json == {"sent": 0}
        entry = call("GET", "/api/v1/audit").json["items"][-1]
        assert (entry["action"], entry["subject"]) == ("retry command", "all")


@pytest.mark.servers
def test_a_dead_letter_is_sent_back_by_api(
    embedded_tcs: World, tmp_path: Path, broker: Broker
) -> None:
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    with consumer(settings) as s, console(s) as call:
        broker.send(APP_COMMANDS, {"deanery": "XYZ"})
        eventually(lambda: len(dead_letters.waiting(s.state)) == 1)
        (letter,) = call("GET", "/api/v1/esr/dead-letters").json
        assert letter["reason"].startswith("deanery: Input should be")
        assert "deanery: Input should be" in call("GET", "/esr").text
        assert call("POST", f"/api/v1/esr/dead-letters/{letter['id']}/retry").status == 204
        # It is as invalid as before, so it dies again, as a new dead letter.
        eventually(
            lambda: [x.id for x in dead_letters.waiting(s.state)] not in ([], [letter["id"]])
        )
        assert call("POST", "/api/v1/esr/dead-letters/none/retry").status == 404
        broker.send(APP_COMMANDS, {"deanery": "ABC"})
        eventually(lambda: len(dead_letters.waiting(s.state)) == 2)
        assert "Retry all 2 dead letters" in call("GET", "/esr").text
        before = {x.id for x in dead_letters.waiting(s.state)}
        assert call("POST", "/api/v1/esr/dead-letters/retry").json == {"sent": 2}
        eventually(lambda: len({x.id for x in dead_letters.waiting(s.state)} - before) == 2)
        assert Commands(s.state).recent(10) == []
