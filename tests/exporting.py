"""Give export commands inside a test, wait for them, and check the books."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.world import World
from tis_sync.esr.commands import Command, Commands
from tis_sync.esr.deaneries import APP, DNC
from tis_sync.esr.files import File, files
from tis_sync.esr.generations import bring_up_to_date
from tis_sync.esr.lines import Parsed, parse
from tis_sync.esr.plan import EXPORTED
from tis_sync.esr.records import records
from tis_sync.esr.sources import layout_of
from tis_sync.esr.workflows import start
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.state import esr as t
from tis_sync.tcs import tables as tcs

PATIENCE_SECONDS = 120.0


def export(s: Services, *deaneries: str, file_type: str = APP, **given: Any) -> list[Command]:
    """Give commands, as `tis-sync esr export` does, and wait until they have ended."""
    commands = Commands(s.state)
    asked = [
        commands.ask(
            file_type=file_type, deanery=deanery, trigger="manual", who="test", now=s.clock(),
            **({"day": s.clock().date()} | given),
        )
        for deanery in deaneries
    ]  # fmt: skip
    start(asked)
    return ended(s, [command.id for command in asked])


def ended(s: Services, ids: list[str]) -> list[Command]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(c.state in {"queued", "running"} for c in Commands(s.state).many(ids)):
        assert time.monotonic() < deadline, Commands(s.state).many(ids)
        time.sleep(0.05)
    return Commands(s.state).many(ids)


def generate(s: Services) -> None:
    bring_up_to_date(s, trigger="manual", who="test")


def said(settings: Settings, file: File) -> Parsed:
    """What a file at its destination says."""
    data = Path(settings.export().removeprefix("file://"), file.name).read_bytes()
    parsed = parse(layout_of(file.file_type, settings), data)
    assert parsed.bad == []
    return parsed


def told(world: World) -> list[tuple[Any, ...]]:
    return world.rows(tcs.PlacementEsrEvent, "placementId", "positionId", "filename", "status")


def states(s: Services) -> Counter[str]:
    return Counter(record.state for record in records(s.state, limit=None))


def check_books(s: Services, world: World) -> None:
    """Numbers without gap or double; no record in two files; TCS told once of each."""
    for file_type in (APP, DNC):
        made = files(s.state, file_type=file_type, limit=100_000)
        assert sorted(file.number for file in made) == list(range(1, len(made) + 1))
        assert all(file.written_at and file.told_at for file in made)
    with s.state.connect() as connection:
        sources = list(connection.scalars(sa.select(t.line.c.source)))
    assert len(sources) == len(set(sources))
    everything = files(s.state, limit=100_000)
    assert sum(file.records for file in everything) == len(sources)
    assert all(file.records >= 0 for file in everything)
    exported = [r for r in records(s.state, limit=None) if r.state == EXPORTED]
    assert sorted(told(world), key=repr) == sorted(
        ((r.placement_id, r.position_id, r.file, EXPORTED) for r in exported), key=repr
    )
