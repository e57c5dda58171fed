"""Two machines whose clocks are five minutes apart: no false alarm, and nothing is sent twice."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY, Clock
from tis_sync.alarms.catalogue import BROKER_SILENT, EVENTS_UNSENT, NO_WORKER, OVERDUE, STUCK
from tis_sync.esr.calendar import due
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export import monitor as export_monitor
from tis_sync.esr.export.events import EventName, write_events
from tis_sync.esr.files.store import find_files
from tis_sync.esr.messaging import consumer
from tis_sync.esr.messaging.monitor import check_messages
from tis_sync.esr.messaging.outbox import publish_events
from tis_sync.esr.records import RecordOrigin, RecordState
from tis_sync.jobs.base import AsOf
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t
from tis_sync.state import tables
from tis_sync.workers import cluster
from tis_sync.workers.monitor import check_jobs

APART = timedelta(minutes=5)
DUE_MINUTES = 30
Machines = tuple[Services, Services]


@pytest.fixture(params=["sqlite", "postgresql"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    """A machine whose clock is right, and one whose clock is five minutes ahead."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    settings = Settings(
        home=tmp_path, state_url=url, broker_url="amqp://h/", due_minutes=DUE_MINUTES
    )
    right, ahead = Services(settings, utc_now), Services(settings, lambda: utc_now() + APART)
    yield right, ahead
    for services in (right, ahead):
        services.close()


def kinds(s: Services) -> set[object]:
    return {alarm.kind for alarm in s.alarms.open_alarms()}


def test_a_broker_that_one_machine_has_just_reached_is_not_silent_for_the_other(
    machines: Machines,
) -> None:
    for one, other in (machines, machines[::-1]):
        asyncio.run(consumer._record_contact(one))
        check_messages(other)
        assert kinds(other) == set()


def test_a_silent_broker_is_noticed_by_a_machine_whose_clock_is_behind(
    machines: Machines,
) -> None:
    right, ahead = machines
    asyncio.run(consumer._record_contact(ahead))
    with right.state.write() as connection:
        at = sa.select(t.last_contact.c.at).scalar_subquery()
        earlier = connection.scalar(sa.select(at)) - timedelta(minutes=1)  # type: ignore[operator]
        connection.execute(sa.update(t.last_contact).values(at=earlier))
    check_messages(right)
    assert kinds(right) == {BROKER_SILENT}


def write_event(s: Services) -> None:
    """Write the event of a file, as this machine does when it has reported the file."""
    file = {
        "name": "F", "file_type": FileType.APP, "deanery": "WES", "day": TODAY, "revision": 0,
        "number": 1, "created_at": NOW, "command_id": "c", "records": 0, "size": 1, "sha256": "x",
        "written_at": NOW,
    }  # fmt: skip
    with s.state.write() as connection:
        connection.execute(sa.insert(t.file).values(file))
    (found,) = find_files(s.state)
    with s.state.write() as connection:
        write_events(connection, found)


def test_an_event_that_one_machine_is_sending_is_not_sent_by_the_other(
    machines: Machines,
) -> None:
    right, ahead = machines
    write_event(right)
    sending: list[str] = []

    def application(name: str) -> Any:
        async def publish(*_: object, **__: object) -> None:
            sending.append(name)
            await asyncio.Event().wait()  # the broker does not confirm it yet

        return SimpleNamespace(events={EventName.FILE_GENERATED: SimpleNamespace(publish=publish)})

    async def both() -> None:
        first = asyncio.create_task(publish_events(right, application("first")))
        while not sending:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(publish_events(ahead, application("second")))
        await asyncio.sleep(0.3)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(both())
    assert sending == ["first"]


def test_an_event_that_one_machine_has_just_written_is_not_late_for_the_other(
    machines: Machines,
) -> None:
    right, ahead = machines
    write_event(right)
    asyncio.run(consumer._record_contact(right))
    check_messages(ahead)
    assert kinds(ahead) == set()
    with right.state.write() as connection:
        earlier = utc_now() - timedelta(minutes=6)
        connection.execute(sa.update(t.outbox).values(created_at=earlier))
    check_messages(right)
    assert kinds(right) == {EVENTS_UNSENT}


@pytest.mark.parametrize(
    ("requested", "began"),
    [
        # The scheduler of a fast machine fires; a slow one begins the run.
        (lambda due: due, lambda due: due - APART),
        # A slow machine carries out the night of a fast one, and requests its runs.
        (lambda due: due - APART, lambda due: due - APART),
    ],
)
def test_a_run_that_began_early_by_the_clock_of_its_machine_counts_as_the_scheduled_one(
    requested: Callable[[datetime], datetime],
    began: Callable[[datetime], datetime],
    tmp_path: Path,
    clock: Clock,
) -> None:
    s = Services(Settings(home=tmp_path, due_minutes=DUE_MINUTES), clock)
    clock.now = datetime(2026, 3, 1, 20, tzinfo=UTC)
    cluster.register_worker(s, schedules=True)
    clock.now = NOW
    for job in JOBS:
        due = datetime.combine(NOW.date(), job.at, UTC)
        run = s.history.request(
            job.name,
            trigger=Trigger.SCHEDULE,
            requested_by="test",
            as_of=AsOf.on(due.date()),
            options=RunOptions(),
            now=requested(due),
        )
        s.history.begin(run.id, began(due))
        s.history.end(run.id, RunState.SUCCEEDED, began(due) + timedelta(seconds=5))
    cluster.refresh_heartbeat(s, schedules=True)
    check_jobs(s)
    assert kinds(s) & {OVERDUE, NO_WORKER} == set()
    with s.state.write() as connection:  # those of the day before do not count
        day = timedelta(days=1)
        for column in (tables.run.c.created_at, tables.run.c.started_at):
            for run_id, at in connection.execute(sa.select(tables.run.c.id, column)).all():
                statement = sa.update(tables.run).where(tables.run.c.id == run_id)
                connection.execute(statement.values({column.name: at - day}))
    check_jobs(s)
    assert kinds(s) >= {OVERDUE, NO_WORKER}
    s.close()


def test_a_record_of_a_machine_whose_clock_is_behind_is_not_stuck_although_it_missed_the_export(
    tmp_path: Path, clock: Clock
) -> None:
    s = Services(Settings(home=tmp_path), clock)
    exported_at = due(FileType.APP, TODAY)
    clock.now = exported_at + timedelta(minutes=31)
    record = {
        "id": "r", "placement_id": 1, "position_id": 2, "position_number": 3, "post_id": 4,
        "deanery": "WES", "start": TODAY + timedelta(days=30), "content": "{}",
        "state": RecordState.TO_EXPORT,
        "origin": RecordOrigin.TCS, "cause": "g", "created_at": exported_at - APART,
        "changed_at": exported_at - APART,
    }  # fmt: skip
    with s.state.write() as connection:
        began = exported_at - timedelta(days=9)
        generation = {
            "id": "g", "trigger": Trigger.SCHEDULE, "requested_by": "t", "started_at": began,
        }  # fmt: skip
        connection.execute(sa.insert(t.generation).values(generation))
        connection.execute(sa.insert(t.record).values(record))
    export_monitor._check_stuck(s, clock(), began)
    assert kinds(s) == set()
    clock.forward(days=1)
    export_monitor._check_stuck(s, clock(), began)
    assert kinds(s) == {STUCK}
    s.close()
