"""Messaging without a broker: liveness, batches, retries, URLs, retention."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import sqlalchemy as sa
from faststream.rabbit.message import RabbitMessage

from tests.conftest import NOW, TODAY
from tis_sync.audit import Actor, Channel
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.messaging import batching
from tis_sync.esr.messaging.batching import Batcher, PoisonError
from tis_sync.esr.messaging.connection import redacted_url, url_of, vhost_of
from tis_sync.esr.messaging.consumer import UNRESPONSIVE_SECONDS, Liveness
from tis_sync.esr.messaging.contract import AppFileCommand, NotificationFileCommand
from tis_sync.esr.messaging.handlers import Handlers
from tis_sync.esr.retention import prune
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t
from tis_sync.state.database import open_state


class Monotonic:
    """A clock that a test sets."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_queue_is_unresponsive_when_a_ping_was_sent_and_nothing_was_delivered() -> None:
    clock = Monotonic()
    liveness = Liveness(("one", "two"), clock)
    clock.seconds += 1000
    assert liveness.unresponsive_queues() == []  # the broker has not accepted a ping yet
    liveness.ping_sent("one")
    clock.seconds += UNRESPONSIVE_SECONDS
    liveness.ping_sent("one")
    assert liveness.unresponsive_queues() == []
    clock.seconds += 1
    assert liveness.unresponsive_queues() == ["one"]
    with liveness.delivery("one"):
        assert liveness.idle_queues() == ["two"]
        assert liveness.unresponsive_queues() == []
    assert liveness.idle_queues() == ["one", "two"]
    assert liveness.unresponsive_queues() == []


def test_items_that_arrive_during_a_batch_form_the_next_one_and_each_has_its_own_result() -> None:
    calls: list[Sequence[int]] = []
    resume = threading.Event()

    def handle(items: Sequence[int]) -> list[int]:
        resume.wait(10)
        calls.append(items)
        return [item * 10 for item in items]

    async def submit_all() -> list[int]:
        batcher = Batcher(handle, 4)
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit(number)) for number in range(2, 8)]
        await asyncio.sleep(0)
        resume.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(submit_all()) == [10, 20, 30, 40, 50, 60, 70]
    assert calls[0][0] == 1
    assert max(len(call) for call in calls) == 4
    assert sum(len(call) for call in calls) == 7


def test_an_item_that_cannot_be_stored_does_not_fail_the_rest_of_its_batch() -> None:
    def handle(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise sa.exc.DataError("INSERT", None, ValueError("3"))
        return list(items)

    async def submit_all() -> list[int | BaseException]:
        batcher = Batcher(handle, 10)
        return await asyncio.gather(*(batcher.submit(n) for n in range(5)), return_exceptions=True)

    results = asyncio.run(submit_all())
    assert [a for a in results if isinstance(a, int)] == [0, 1, 2, 4]
    assert isinstance(results[3], sa.exc.DataError)


def test_old_finished_rows_are_deleted(tmp_path: Path) -> None:
    state = open_state(Settings(home=tmp_path))
    old, new = NOW - timedelta(days=401), NOW - timedelta(days=399)
    with state.write() as connection:
        for number, at in enumerate((old - timedelta(days=9), old, new)):
            row = {
                "id": str(number),
                "trigger": "schedule",
                "requested_by": "test",
                "started_at": at,
            }
            connection.execute(sa.insert(t.generation).values(row))
            row = {"id": str(number), "queue": "q", "received_at": at}
            connection.execute(sa.insert(t.message).values(row))
        for number, sent in enumerate((old, new, None)):
            event = {"event": "e", "subject": str(number), "correlation": "c", "created_at": old}
            connection.execute(sa.insert(t.outbox).values(event | {"sent_at": sent}))
    assert prune(state, NOW, 400) == 1 + 2 + 1
    with state.read() as connection:
        assert list(connection.scalars(sa.select(t.generation.c.id))) == ["0", "2"]
        assert list(connection.scalars(sa.select(t.outbox.c.subject))) == ["1", "2"]
    state.close()


@pytest.mark.parametrize("url", ["", "guest@host", "amqp://", "http://host/", "amqp://h:port/"])
def test_a_url_that_is_not_for_rabbitmq_is_refused_with_an_example(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"TIS_SYNC_BROKER_URL.*amqp://USER"):
        url_of(Settings(home=tmp_path, broker_url=url))


def test_a_url_names_the_virtual_host_and_is_shown_without_its_password() -> None:
    assert vhost_of("amqp://u:p@host/") == "/"
    assert vhost_of("amqp://u:p@host:1/a%2Fb") == "a/b"
    assert redacted_url("amqps://u:secret@host:5671/v") == "amqps://u:***@host:5671/v"


class Requests:
    """Records the exports that handlers request; the first ones fail."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests: list[tuple[Actor, FileType, date | None, str | None]] = []

    def __call__(
        self,
        actor: Actor,
        deaneries: Sequence[str],
        file_type: FileType,
        day: date | None = None,
        *,
        new: bool = False,
        key: str | None = None,
        trigger: Trigger = Trigger.MANUAL,
    ) -> None:
        assert (tuple(deaneries), new, trigger) == (("WES",), False, Trigger.MESSAGE)
        self.requests.append((actor, file_type, day, key))
        if self.errors:
            raise self.errors.pop(0)


def deliver(
    requests: Requests, tmp_path: Path, command: AppFileCommand, **properties: object
) -> None:
    """Deliver a command to the handlers."""
    raw = {"message_id": "id-1", "app_id": "TIS", "timestamp": None} | properties
    message = cast("RabbitMessage", SimpleNamespace(
        message_id="id-1", correlation_id="id-2", raw_message=SimpleNamespace(**raw)
    ))  # fmt: skip
    handlers = Handlers(Services(Settings(home=tmp_path), lambda: NOW), requests)
    asyncio.run(handlers.command(command, message))


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("the state database does not answer"),
        sa.exc.OperationalError("INSERT", None, OSError("cut")),
        RuntimeError("the queue refuses the command, which is stored already"),
    ],
)
def test_a_command_that_may_be_stored_is_retried_and_never_becomes_a_dead_letter(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "FIRST_WAIT_SECONDS", 0.01)
    requests = Requests(error, error)
    deliver(requests, tmp_path, AppFileCommand(deanery="WES"))
    assert requests.requests == [(Actor("TIS", Channel.MESSAGE), FileType.APP, None, "id-1")] * 3


@pytest.mark.parametrize(
    "error", [UsageError("no"), sa.exc.DataError("INSERT", None, ValueError("no"))]
)
def test_a_refused_command_becomes_a_dead_letter_at_once(error: Exception, tmp_path: Path) -> None:
    requests = Requests(error)
    with pytest.raises(PoisonError, match="no"):
        deliver(requests, tmp_path, AppFileCommand(deanery="WES"))
    assert len(requests.requests) == 1


@pytest.mark.parametrize(
    ("sent_at", "day"),
    [
        (NOW - timedelta(days=2), TODAY - timedelta(days=2)),
        (NOW, None),
        (NOW + timedelta(days=1), None),  # the clock of the sender is ahead
    ],
)
def test_a_command_without_a_day_is_for_the_day_of_its_message_but_not_for_a_later_one(
    sent_at: datetime, day: date | None, tmp_path: Path
) -> None:
    requests = Requests()
    command = NotificationFileCommand(deanery="WES", full=True)
    deliver(requests, tmp_path, command, timestamp=sent_at, app_id=None)
    assert requests.requests == [(Actor("?", Channel.MESSAGE), FileType.DNF, day, "id-1")]


def test_a_message_id_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PoisonError, match="the message id has 71 characters; at most 70 are allowed"
    ):
        deliver(Requests(), tmp_path, AppFileCommand(deanery="WES"), message_id="x" * 71)
