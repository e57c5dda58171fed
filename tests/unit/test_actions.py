"""Actions: repeated requests are recognised, and refused ones are in the audit log too."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import NOW, TODAY
from tests.running import working
from tests.world import World
from tis_sync import actions, audit
from tis_sync.audit import Actor, Channel
from tis_sync.demo import generate as demo
from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Command
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

SENDER = Actor("TIS", Channel.MESSAGE)


@pytest.fixture
def services(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    demo.generate(embedded_tcs.database, demo.Size(50), TODAY)
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url)) as s:
        yield s


def export(
    s: Services, *deaneries: str, actor: Actor = SENDER, file_type: FileType = FileType.APP
) -> list[Command]:
    return actions.export(s, actor, deaneries, file_type, key="id-1")


def test_a_refused_approval_and_a_refresh_of_the_records_are_in_the_audit_log(
    services: Services,
) -> None:
    with pytest.raises(UsageError):
        actions.approve(services, SENDER, "no-such-run")
    actions.refresh_records(services, SENDER)
    refresh, approval = audit.entries(services.state)
    assert (approval.action, approval.subject) == ("approve", "no-such-run")
    assert approval.outcome != "done"
    assert (refresh.action, refresh.outcome) == ("refresh records", "done")


def test_an_export_request_without_a_day_is_the_same_request_after_midnight(
    services: Services,
) -> None:
    first = export(services, "WES")
    services.clock = lambda: NOW + timedelta(days=1)
    assert [c.id for c in export(services, "WES")] == [c.id for c in first]


def test_a_key_is_one_request_per_sender_and_deanery(services: Services) -> None:
    other = replace(SENDER, name="another system")
    requested = [
        *export(services, "WES"),
        *export(services, "KSS"),
        *export(services, "WES", actor=other),
    ]
    assert len({command.id for command in requested}) == 3


def test_a_key_that_was_used_for_another_request_is_refused(services: Services) -> None:
    export(services, "WES")
    with pytest.raises(UsageError, match="was used for another request"):
        export(services, "WES", file_type=FileType.DNC)
