"""Concurrent generations, claims and messages, and failures in the middle, on PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.conftest import NOW, TODAY
from tests.exporting import check_consistency, wait_until_ended
from tests.running import working
from tests.starters import placement, starters
from tests.wire import Wire
from tests.world import World
from tis_sync.db.database import Database
from tis_sync.esr.applicants.external_records import ExternalRecord, store_external_records
from tis_sync.esr.applicants.generate import generate
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.workflow import start_commands
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.destination import Destination
from tis_sync.esr.files.numbering import claim
from tis_sync.esr.files.store import mark_reported, mark_written
from tis_sync.esr.records import RecordState, count_records
from tis_sync.runs.run import Trigger
from tis_sync.settings.model import Settings
from tis_sync.state.database import open_state
from tis_sync.tcs import tables as tcs

pytestmark = pytest.mark.servers
ROUNDS = 10


def external(number: int) -> ExternalRecord:
    """A valid record from another system."""
    return ExternalRecord(
        message_id=f"m{number}", queue="q", placement_id=900_000 + number, position_id=77,
        position_number=7, post_number="WES/X/1", last_name="External", first_name="Ann",
        dob=date(1990, 1, 1), projected_hire_date=TODAY + timedelta(days=20),
    )  # fmt: skip


def test_concurrent_generations_claims_and_messages_never_deadlock(
    embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, state_url=postgresql)
    embedded_tcs.fill(starters(100, DEANERIES))
    layout = layout_of(FileType.APP, settings)
    states = [open_state(settings) for _ in range(5)]
    records = [external(number) for number in range(50)]

    def generate_all(state: Database) -> None:
        generate(state, embedded_tcs.database, layout, {}, TODAY, NOW, str(uuid4()))

    def claim_all(state: Database) -> None:
        for deanery in DEANERIES:
            file = claim(
                state, command_id=str(uuid4()), file_type=FileType.APP, deanery=deanery, day=TODAY,
                now=NOW, new=True,
            )  # fmt: skip
            mark_written(state, file, b"", NOW)
            mark_reported(state, file, NOW)

    def store_all(state: Database) -> None:
        store_external_records(state, records, layout=layout, prefixes={}, day=TODAY, now=NOW)

    for round_number in range(ROUNDS):
        more = [
            placement(1000 + 100 * round_number + n, n + 1, n + 1, TODAY + timedelta(days=30))
            for n in range(100)
        ]
        embedded_tcs.execute(sa.insert(tcs.Placement).values(more))
        records = [
            replace(record, message_id=f"{round_number}-{n}")
            for n, record in enumerate(reversed(records))
        ]
        actions = (generate_all, generate_all, generate_all, claim_all, store_all)
        with ThreadPoolExecutor(len(actions)) as pool:
            for future in [pool.submit(act, on) for act, on in zip(actions, states, strict=True)]:
                future.result()
    generate_all(states[0])
    claim_all(states[0])
    counts = count_records(states[0])
    assert counts.keys() == {(deanery, RecordState.EXPORTED) for deanery in DEANERIES}
    assert sum(counts.values()) == 100 + ROUNDS * 100 + len(records)
    for state in states:
        state.close()


def test_an_export_survives_an_outage_of_the_state_database(
    embedded_tcs: World, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_tcs.fill(starters(2))
    url = make_url(postgresql)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    state_url = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, state_url=state_url, esr_retry_seconds=(0.2,) * 50
    )
    put, joined = Destination.put, threading.Event()

    def join() -> None:
        wire.join()
        joined.set()

    def put_and_cut(self: Destination, name: str, data: bytes) -> None:
        put(self, name, data)
        monkeypatch.setattr(Destination, "put", put)
        wire.cut()
        threading.Timer(2, join).start()

    with working(settings) as s:
        command = Commands(s.state).request(
            file_type=FileType.APP, deanery="WES", day=TODAY, trigger=Trigger.MANUAL,
            requested_by="test", now=s.clock(),
        )  # fmt: skip
        monkeypatch.setattr(Destination, "put", put_and_cut)
        start_commands(s, [command])
        assert joined.wait(30)
        (done,) = wait_until_ended(s, [command.id])
        assert (done.state, done.error) == (CommandState.DONE, None)
        check_consistency(s, embedded_tcs)
    wire.close()
