"""Request exports inside a test, wait for them, and check that everything recorded agrees."""

from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.waiting import eventually
from tests.world import World
from tis_sync.esr.applicants.generations import refresh_records
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.export.workflow import start_commands
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import ParsedFile, parse
from tis_sync.esr.files.numbering import File
from tis_sync.esr.files.store import find_files, read_contents
from tis_sync.esr.records import RecordState, find_records
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs

TIMEOUT_SECONDS = 120.0
ACTIVE = {CommandState.QUEUED, CommandState.RUNNING}


def export(
    s: Services, *deaneries: str, file_type: FileType = FileType.APP, **values: Any
) -> list[Command]:
    """Request commands, as `tis-sync esr export` does, and wait until they have ended."""
    requested = [start(s, deanery, file_type, **values) for deanery in deaneries]
    return wait_until_ended(s, [command.id for command in requested])


def start(s: Services, deanery: str, file_type: FileType = FileType.APP, **values: Any) -> Command:
    """Request a command, and have it carried out."""
    command = Commands(s.state).request(
        file_type=file_type, deanery=deanery, trigger=Trigger.MANUAL, requested_by="test",
        now=s.clock(), **({"day": s.clock().date()} | values),
    )  # fmt: skip
    start_commands(s, [command])
    return command


def wait_until_ended(s: Services, ids: list[str]) -> list[Command]:
    def commands() -> list[Command]:
        return Commands(s.state).many(ids)

    eventually(lambda: not any(c.state in ACTIVE for c in commands()), TIMEOUT_SECONDS, commands)
    return commands()


def generate(s: Services) -> None:
    refresh_records(s, trigger=Trigger.MANUAL, requested_by="test")


def parsed_file(s: Services, file: File) -> ParsedFile:
    """Read a file at its destination, and check that the stored lines contain the same."""
    data = Path(s.settings.export().removeprefix("file://"), file.name).read_bytes()
    parsed = parse(layout_of(file.file_type, s.settings), data)
    assert parsed.bad == []
    contents = read_contents(s.state, s.settings, file)
    assert (contents.header, contents.trailer) == (parsed.header, parsed.trailer)
    assert contents.records.equals(parsed.records)
    return parsed


def tcs_events(world: World) -> list[tuple[Any, ...]]:
    return world.rows(tcs.PlacementEsrEvent, "placementId", "positionId", "filename", "status")


def states(s: Services) -> Counter[str]:
    return Counter(record.state for record in find_records(s.state, limit=None))


def check_consistency(s: Services, world: World) -> None:
    """Check that numbers have no gaps or duplicates, and each record has one file and one event."""
    for file_type in (FileType.APP, FileType.DNC):
        of_type = find_files(s.state, file_type=file_type, limit=100_000)
        assert sorted(file.number for file in of_type) == list(range(1, len(of_type) + 1))
        assert all(file.written_at and file.reported_at for file in of_type)
    with s.state.read() as connection:
        subjects = list(connection.scalars(sa.select(t.line.c.subject)))
    assert len(subjects) == len(set(subjects))
    assert sum(file.records for file in find_files(s.state, limit=100_000)) == len(subjects)
    exported = [r for r in find_records(s.state, limit=None) if r.state == RecordState.EXPORTED]
    assert sorted(tcs_events(world), key=repr) == sorted(
        ((r.placement_id, r.position_id, r.file, "EXPORTED") for r in exported), key=repr
    )


ended = wait_until_ended
