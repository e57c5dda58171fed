"""Notification channels that fail, are slow or are corrected, on both kinds of state database."""

from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from tests.channels import ChannelServer, Mood
from tests.conftest import Clock
from tests.notifications import servers, services
from tests.waiting import eventually
from tis_sync.alarms.catalogue import FAILED, HELD, Severity
from tis_sync.alarms.channels import channels_of
from tis_sync.alarms.delivery import (
    LEASE_SECONDS,
    NEWEST_HOURS,
    RETRY_SECONDS,
    count_unsent,
    deliver_due,
)
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t

__all__ = ["servers", "services"]
JOB = "PersonOwnerRebuildJob"
MANY = 25  # more than are claimed at a time
SLOW_SECONDS = 0.8 * LEASE_SECONDS


def deliver(s: Services, *servers: ChannelServer) -> int:
    """Deliver what is due to these channels; return how many notifications were sent."""
    channels = channels_of([server.url for server in servers])
    sent = 0
    while count := deliver_due(s.state, channels, s.clock):
        sent += count
    return sent


def fail(s: Services, details: str = "because", severity: Severity | None = None) -> bool:
    """Open the alarm that a job failed."""
    return s.alarms.open(FAILED, JOB, details, s.clock(), severity=severity, impact="people wait")


def inform(s: Services, *numbers: int) -> None:
    for number in numbers:
        s.alarms.inform(f"message {number}", "text")


def test_a_dead_channel_does_not_delay_the_others_however_much_waits_for_it(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    dead, working = servers
    dead.mood = Mood.REFUSE
    inform(services, *range(MANY))
    deliver(services, dead, working)
    assert len(working.titles) == MANY
    attempts = dead.attempts
    fail(services)
    deliver(services, dead, working)
    assert working.titles[-1] == f"{JOB}: failed"
    assert dead.attempts <= attempts + 1
    clock.forward(seconds=RETRY_SECONDS[0])
    deliver(services, dead, working)
    assert dead.attempts <= attempts + 2  # one attempt shows that the channel is still dead
    dead.mood = Mood.ACCEPT
    clock.forward(seconds=RETRY_SECONDS[1])
    deliver(services, dead, working)
    assert sorted(dead.titles) == sorted(working.titles)
    assert count_unsent(services.state) == 0


def test_a_notification_that_its_channel_refuses_does_not_hold_back_those_behind_it(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    channel = servers[0]
    channel.react = lambda message: Mood.REFUSE if "message 0" in message["title"] else None
    inform(services, 0, 1, 2)
    for wait in RETRY_SECONDS[:4]:
        deliver(services, channel)
        clock.forward(seconds=wait)
    assert channel.titles == ["message 1", "message 2"]
    inform(services, 3)
    deliver(services, channel)
    assert channel.titles == ["message 1", "message 2", "message 3"]


def test_what_waits_for_a_dead_channel_is_given_up_when_it_is_old(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    dead = servers[0]
    dead.mood = Mood.REFUSE
    inform(services, *range(MANY))
    deliver(services, dead)
    clock.forward(hours=NEWEST_HOURS)
    clock.forward(minutes=1)
    deliver(services, dead)
    assert count_unsent(services.state) == 0


def test_a_slow_channel_receives_nothing_twice_from_two_workers(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    slow = servers[0]
    is_nested = False

    def react(_: dict[str, str]) -> None:
        nonlocal is_nested
        clock.forward(seconds=SLOW_SECONDS)
        if not is_nested:  # another worker delivers while the first one waits for an answer
            is_nested = True
            deliver_due(services.state, channels_of([slow.url]), services.clock)
            is_nested = False

    slow.react = react
    inform(services, *range(6))
    deliver(services, slow)
    assert sorted(slow.titles) == [f"message {number}" for number in range(6)]


def test_a_worker_whose_claim_has_expired_changes_nothing_of_the_next_claim(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    slow = servers[0]
    d = t.notification_delivery
    until = clock() + timedelta(seconds=3 * LEASE_SECONDS)

    def react(_: dict[str, str]) -> Mood:
        clock.forward(seconds=LEASE_SECONDS + 1)
        with services.state.write() as connection:  # another worker considers us dead
            connection.execute(sa.update(d).values(claimed_until=until))
        return Mood.REFUSE

    slow.react = react
    inform(services, 1)
    deliver(services, slow)
    with services.state.read() as connection:
        row = connection.execute(sa.select(d)).one()
    assert (row.claimed_until, row.attempts) == (until, 0)


def working(home: Path, *urls: str) -> Services:
    return Services(Settings(home=home, notification_urls=list(urls)))


def test_the_correction_of_a_channel_tells_it_what_is_open_and_ends_what_waits_for_the_old_one(
    tmp_path: Path, servers: list[ChannelServer]
) -> None:
    other, right = servers
    mistyped = "json://127.0.0.1:9/?cto=1&rto=1"
    s = working(tmp_path, other.url, mistyped)
    with s.delivering():
        fail(s, "It is retried.", Severity.WARNING)
        fail(s, "It was given up.")
        s.alarms.open(HELD, JOB, "It would remove 5,000.", s.clock(), impact="people wait")
        s.alarms.close(HELD, JOB, s.clock())
        eventually(lambda: len(other.accepted) == 4, 20)
    assert count_unsent(s.state) > 0
    s.close()
    s = working(tmp_path, other.url, right.url)
    with s.delivering():  # a command may have been given other channels
        eventually(lambda: right.accepted, 10)
    assert count_unsent(s.state) > 0
    with s.delivering(is_worker=True):
        eventually(lambda: count_unsent(s.state) == 0, 10)
    assert right.titles == [f"{JOB}: failed (still open)"]
    text = right.accepted[0]["message"]
    assert text.startswith("Open since ")
    assert "It was given up." in text
    assert len(other.accepted) == 4
    assert count_unsent(s.state) == 0
    with s.delivering():
        s.alarms.close(FAILED, JOB, s.clock())
    assert right.titles[1:] == other.titles[4:] == [f"{JOB}: succeeded"]
    s.close()


def test_a_channel_that_two_workers_see_first_hears_of_each_open_alarm_once(
    services: Services, servers: list[ChannelServer]
) -> None:
    old, new = servers
    fail(services)
    deliver(services, old)
    old.react = new.react = lambda _: None
    first, second = deliver(services, old, new), deliver(services, old, new)
    assert (first, second) == (1, 0)
    assert new.titles == [f"{JOB}: failed (still open)"]
    assert old.titles == [f"{JOB}: failed"]


def test_a_first_channel_hears_of_alarms_that_were_opened_long_before_it(
    services: Services, servers: list[ChannelServer]
) -> None:
    fail(services)
    with services.state.write() as connection:
        old = services.clock() - timedelta(hours=NEWEST_HOURS, seconds=1)
        connection.execute(sa.update(t.notification).values(created_at=old))
    deliver(services, servers[0])
    assert servers[0].titles == [f"{JOB}: failed (still open)"]


def test_a_worker_that_still_has_the_old_channels_ends_nothing_of_the_new_ones(
    tmp_path: Path, servers: list[ChannelServer]
) -> None:
    """Workers are restarted one by one."""
    old, new = servers
    new.mood = Mood.REFUSE
    before, after = working(tmp_path, old.url), working(tmp_path, new.url)
    with before.delivering(is_worker=True):
        with after.delivering(is_worker=True):
            fail(after)
            eventually(lambda: new.attempts, 10)
            eventually(lambda: old.accepted, 20)
        assert count_unsent(after.state) == 1
    for s in (before, after):
        s.close()
