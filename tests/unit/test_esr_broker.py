"""What needs no broker: who hears, what is done together, what is forgotten."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import NOW
from tis_sync.errors import UsageError
from tis_sync.esr.broker.connect import shown, url_of, vhost_of
from tis_sync.esr.broker.ears import DEAF_SECONDS, Ears
from tis_sync.esr.broker.together import Together
from tis_sync.esr.forget import forget
from tis_sync.settings import Settings
from tis_sync.state import esr as t
from tis_sync.state.database import open_state


class Monotonic:
    """A clock that goes forward when it is told to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_queue_is_deaf_when_a_ping_went_in_and_nothing_came_out() -> None:
    time = Monotonic()
    ears = Ears(("one", "two"), time)
    time.seconds += 1000
    assert ears.deaf() == []  # nobody has pinged it yet: the broker took nothing
    ears.pinged("one")
    time.seconds += DEAF_SECONDS
    ears.pinged("one")
    assert ears.deaf() == []
    time.seconds += 1
    assert ears.deaf() == ["one"]
    with ears.hears("one"):
        assert ears.quiet() == ["two"]
        assert ears.deaf() == []
    assert ears.quiet() == ["one", "two"]
    assert ears.deaf() == []


def test_what_comes_while_others_are_done_is_done_together_and_each_gets_its_own_answer() -> None:
    calls: list[Sequence[int]] = []
    go_on = threading.Event()

    def act(items: Sequence[int]) -> list[int]:
        go_on.wait(10)
        calls.append(items)
        return [item * 10 for item in items]

    async def all_of_them() -> list[int]:
        together = Together(act, 4)
        first = asyncio.create_task(together.do(1))
        await asyncio.sleep(0)
        others = [asyncio.create_task(together.do(number)) for number in range(2, 8)]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(all_of_them()) == [10, 20, 30, 40, 50, 60, 70]
    assert calls[0][0] == 1
    assert max(len(call) for call in calls) == 4
    assert sum(len(call) for call in calls) == 7


def test_one_that_cannot_be_stored_does_not_take_the_others_with_it() -> None:
    def act(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise sa.exc.DataError("INSERT", None, ValueError("3"))
        return list(items)

    async def all_of_them() -> list[int | BaseException]:
        together = Together(act, 10)
        return await asyncio.gather(*(together.do(n) for n in range(5)), return_exceptions=True)

    answers = asyncio.run(all_of_them())
    assert [a for a in answers if isinstance(a, int)] == [0, 1, 2, 4]
    assert isinstance(answers[3], sa.exc.DataError)


def test_what_is_old_and_done_with_is_forgotten(tmp_path: Path) -> None:
    state = open_state(Settings(home=tmp_path))
    old, new = NOW - timedelta(days=401), NOW - timedelta(days=399)
    with state.execution_options(writes=True).begin() as connection:
        for number, at in enumerate((old - timedelta(days=9), old, new)):
            row = {"id": str(number), "trigger": "schedule", "who": "test", "started_at": at}
            connection.execute(sa.insert(t.generation).values(row))
            row = {"id": str(number), "queue": "q", "taken_at": at}
            connection.execute(sa.insert(t.message).values(row))
        for number, sent in enumerate((old, new, None)):
            event = {"event": "e", "subject": str(number), "correlation": "c", "created_at": old}
            connection.execute(sa.insert(t.outbox).values(event | {"sent_at": sent}))
    assert forget(state, NOW, 400) == 1 + 2 + 1
    with state.connect() as connection:
        assert list(connection.scalars(sa.select(t.generation.c.id))) == ["0", "2"]
        assert list(connection.scalars(sa.select(t.outbox.c.subject))) == ["1", "2"]
    state.dispose()


@pytest.mark.parametrize("url", ["", "guest@host", "amqp://", "http://host/", "amqp://h:port/"])
def test_what_is_no_url_of_a_broker_is_said_with_an_example(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TIS_SYNC_BROKER_URL.*amqp://USER"):
        url_of(Settings(home=tmp_path, broker_url=url))


def test_the_virtual_host_and_what_may_be_shown_of_a_url() -> None:
    assert vhost_of("amqp://u:p@host/") == "/"
    assert vhost_of("amqp://u:p@host:1/a%2Fb") == "a/b"
    assert shown("amqps://u:secret@host:5671/v") == "amqps://u:***@host:5671/v"
