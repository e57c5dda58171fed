"""Actions: repeated requests are recognised, and refused ones are in the audit log too."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY
from tests.exporting import export as export_now
from tests.exporting import wait_until_ended
from tests.running import working
from tests.world import World
from tis_sync import actions, audit
from tis_sync.audit import Actor, Channel
from tis_sync.demo import generate as demo
from tis_sync.errors import PreviewNeededError, UsageError
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.export.preview import preview, total
from tis_sync.esr.files.store import find_files, get_file
from tis_sync.esr.records import count_records
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t

SENDER = Actor("TIS", Channel.MESSAGE)
PERSON = Actor("olga", Channel.COMMAND_LINE)


@pytest.fixture
def services(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    demo.generate(embedded_tcs.database, demo.Size(150), TODAY)
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


def numbers(s: Services) -> list[int]:
    """The numbers of all files that exist."""
    return sorted(file.number for file in find_files(s.state))


@pytest.fixture
def records(services: Services) -> Services:
    """The services, with records that wait for the export."""
    actions.refresh_records(services, PERSON)
    return services


@pytest.mark.parametrize("day", [date(1970, 1, 1), date(2020, 11, 25), TODAY - timedelta(days=32)])
@pytest.mark.parametrize("actor", [PERSON, SENDER])
def test_nothing_is_exported_into_the_file_of_a_day_long_ago(
    records: Services, actor: Actor, day: date
) -> None:
    trigger = Trigger.MESSAGE if actor is SENDER else Trigger.MANUAL
    with pytest.raises(UsageError, match=r"too long ago.*2026-01-30 and later.*ESR_EXPORT_DAYS"):
        actions.export(records, actor, DEANERIES, FileType.APP, day, previewed=0, trigger=trigger)
    assert Commands(records.state).recent(10) == []
    assert audit.entries(records.state)[0].outcome.startswith(f"{day} is too long ago")


def test_the_oldest_day_is_a_setting(records: Services) -> None:
    records.settings = records.settings.model_copy(update={"esr_export_days": 0})
    with pytest.raises(UsageError, match="for 2026-03-02 and later"):
        actions.export(records, PERSON, ["WES"], FileType.APP, TODAY - timedelta(days=1))
    assert actions.export(records, PERSON, ["WES"], FileType.APP, TODAY)


def test_an_export_for_another_day_needs_the_number_in_the_preview(records: Services) -> None:
    day, codes = TODAY - timedelta(days=1), list(DEANERIES)
    count = total(preview(records, codes, FileType.APP, day, new=False))
    unsent = count_records(records.state)
    assert count == sum(n for (_, state), n in unsent.items() if state == "TO_EXPORT") > 0
    for wrong in (None, 0, count + 1):
        with pytest.raises(
            PreviewNeededError, match=f"exports {count} records into files for {day}"
        ):
            actions.export(records, PERSON, codes, FileType.APP, day, previewed=wrong)
    assert Commands(records.state).recent(10) == []
    requested = actions.export(
        records, PERSON, codes, FileType.APP, day, previewed=count, key="id-2"
    )
    ended = wait_until_ended(records, [command.id for command in requested])
    files = [get_file(records.state, str(command.file)) for command in ended]
    assert sum(file.records for file in files) == count
    again = actions.export(records, PERSON, codes, FileType.APP, day, previewed=count, key="id-2")
    assert [c.id for c in again] == [c.id for c in requested]
    repeated = preview(records, codes, FileType.APP, day, new=False)
    assert [(p.file, p.records) for p in repeated] == [(f.name, f.records) for f in files]


@pytest.mark.parametrize("file_type", [FileType.DNC, FileType.DNF])
def test_the_preview_counts_notifications_too(records: Services, file_type: FileType) -> None:
    (found,) = preview(records, ["LDN"], file_type, TODAY, new=False)
    requested = actions.export(records, PERSON, ["LDN"], file_type)
    (ended,) = wait_until_ended(records, [command.id for command in requested])
    # The export itself adds the notifications of the days that were missed.
    assert get_file(records.state, str(ended.file)).records >= found.records


def test_the_preview_counts_at_most_forty_records_of_a_post(records: Services) -> None:
    with records.state.write() as connection:
        record = connection.execute(sa.select(t.record).limit(1)).mappings().one()
        connection.execute(sa.delete(t.record))
        same_post = {"deanery": "WES", "state": "TO_EXPORT", "post_id": 7, "file": None}
        rows = [{**record, **same_post, "id": f"1-{n}-1"} for n in range(41)]
        rows.append({**record, **same_post, "post_id": 8, "id": "1-99-1"})
        connection.execute(sa.insert(t.record), rows)
    (found,) = preview(records, ["WES"], FileType.APP, TODAY, new=False)
    assert (found.file, found.records) == (None, 41)


def test_a_message_may_name_another_day_within_the_limit(records: Services) -> None:
    day = TODAY - timedelta(days=3)
    requested = actions.export(records, SENDER, ["WES"], FileType.APP, day, trigger=Trigger.MESSAGE)
    assert [command.day for command in requested] == [day]


def test_a_command_that_was_dead_for_too_long_makes_no_file_when_it_is_retried(
    records: Services,
) -> None:
    (old,) = export_now(records, "WES", day=TODAY - timedelta(days=40))
    assert old.state is CommandState.DEAD
    assert "too long ago for a new file" in str(old.error)
    assert "tis-sync esr export WES --type app --new" in str(old.error)
    assert numbers(records) == []
    (retried,) = actions.retry_commands(records, PERSON, [old.id])
    (still,) = wait_until_ended(records, [retried.id])
    assert still.state is CommandState.DEAD
    assert numbers(records) == []
