"""Alarms and their notifications, on both kinds of state database; channels are real servers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.channels import ChannelServer, Mood
from tests.conftest import Clock
from tests.notifications import servers, services
from tests.waiting import eventually
from tis_sync.alarms.catalogue import FAILED, HELD, TOO_LATE, Resolution, Severity
from tis_sync.alarms.channels import Channel, channels_of
from tis_sync.alarms.delivery import (
    LEASE_SECONDS,
    NEWEST_HOURS,
    RETRY_SECONDS,
    count_unsent,
    deliver_due,
    waiting,
)
from tis_sync.alarms.store import Closing
from tis_sync.execution.progress import note_retry
from tis_sync.execution.workflow import CANCELLED
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.runs.end import end_run, notify_end
from tis_sync.runs.request import request_run
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.state.clock import time_of

__all__ = ["servers", "services"]
JOB = "PersonOwnerRebuildJob"
DAY = timedelta(days=1)


def channels(servers: list[ChannelServer]) -> list[Channel]:
    return channels_of([server.url for server in servers])


def fail(s: Services, details: str, severity: Severity | None = None) -> bool:
    """Open the alarm that a job failed."""
    return s.alarms.open(
        FAILED, JOB, details, s.clock(), severity=severity, impact="people are missing from search"
    )


def test_an_alarm_is_opened_once_until_it_is_closed(services: Services) -> None:
    alarms = services.alarms
    assert fail(services, "because")
    assert not fail(services, "again")
    assert alarms.open(
        HELD, JOB, "guard", services.clock(), impact="people are missing from search"
    )
    assert [(alarm.kind, alarm.text.split()[0]) for alarm in alarms.open_alarms()] == [
        (FAILED, "again"),
        (HELD, "guard"),
    ]
    assert [alarm.kind for alarm in alarms.open_alarms(HELD)] == [HELD]
    assert alarms.close(FAILED, JOB, services.clock())
    assert not alarms.close(FAILED, JOB, services.clock())
    assert fail(services, "anew")


def test_the_text_of_an_open_alarm_follows_the_facts_without_a_new_notification(
    services: Services, servers: list[ChannelServer]
) -> None:
    fail(services, "Two are missing.")
    services.alarms.open(
        FAILED,
        JOB,
        "Three are missing.",
        services.clock(),
        run_id="other run",
        impact="people are missing",
    )
    (alarm,) = services.alarms.open_alarms()
    assert alarm.text.startswith("Three are missing. Until a run succeeds: people are missing.")
    assert alarm.run_id == "other run"
    deliver_due(services.state, channels(servers), services.clock)
    assert servers[0].titles == [f"{JOB}: failed"]


def test_a_final_failure_after_a_retry_is_a_new_notification_and_a_retry_after_it_is_not(
    services: Services, servers: list[ChannelServer]
) -> None:
    assert fail(services, "It is retried in 60 s.", Severity.WARNING)
    assert fail(services, "It was given up.")
    assert not fail(services, "It is retried in 60 s.", Severity.WARNING)
    (alarm,) = services.alarms.open_alarms()
    assert (alarm.severity, alarm.text.split(".")[0]) == (
        Severity.FAILURE,
        "It is retried in 60 s",
    )
    assert not fail(services, "It was given up again.")
    while deliver_due(services.state, channels(servers), services.clock):
        pass
    assert servers[0].titles == [f"{JOB}: failed", f"{JOB}: failed (escalated)"]
    assert [message["type"] for message in servers[0].accepted] == ["warning", "failure"]


def test_people_hear_that_the_retries_of_a_run_were_given_up(
    services: Services, servers: list[ChannelServer]
) -> None:
    job = JOB_BY_NAME[JOB]
    run = request_run(
        services, job, trigger=Trigger.SCHEDULE, requested_by="schedule", options=RunOptions()
    )
    for attempt in range(3):
        note_retry(services, run.id, attempt, "TCS does not answer.", 60)
    notify_end(services, run, job, RunState.FAILED, "TCS does not answer.")
    notify_end(services, run, job, RunState.FAILED, "TCS does not answer.")
    while deliver_due(services.state, channels(servers), services.clock):
        pass
    assert servers[0].titles == [f"{JOB}: failed", f"{JOB}: failed (escalated)"]
    first, second = (message["message"] for message in servers[0].accepted)
    assert "retried automatically in 60 s" in first
    assert "retried" not in second
    notify_end(services, run, job, RunState.HELD, "It would remove 5,000 of 6,000.")
    (closed,) = services.alarms.closed_alarms(10)
    assert (closed.kind, closed.resolution) == (FAILED, Resolution.SUPERSEDED)
    assert [alarm.kind for alarm in services.alarms.open_alarms()] == [HELD]


def test_the_alarm_about_a_run_that_was_cancelled_before_its_retry_announces_no_retry(
    services: Services, servers: list[ChannelServer]
) -> None:
    run = request_run(
        services,
        JOB_BY_NAME[JOB],
        trigger=Trigger.SCHEDULE,
        requested_by="schedule",
        options=RunOptions(),
    )
    services.history.begin(run.id, services.clock())
    note_retry(services, run.id, 0, "TCS does not answer.", 600)
    assert services.history.get(run.id).error == "TCS does not answer."
    end_run(services, run.id, RunState.CANCELLED, CANCELLED)
    (alarm,) = services.alarms.open_alarms()
    assert alarm.text.startswith(
        "TCS does not answer. The run ended before a retry succeeded: cancelled by a person. "
        "Until a run"
    )
    assert f"`tis-sync run {JOB}`" in alarm.text
    assert alarm.severity == Severity.WARNING
    while deliver_due(services.state, channels(servers), services.clock):
        pass
    assert servers[0].titles == [f"{JOB}: failed"]  # who cancels it knows


def test_the_cancelling_of_a_run_that_is_not_in_an_alarm_leaves_the_alarm_as_it_is(
    services: Services,
) -> None:
    job = JOB_BY_NAME[JOB]
    for state, error in ((RunState.FAILED, "Denied."), (RunState.CANCELLED, CANCELLED)):
        run = request_run(
            services, job, trigger=Trigger.MANUAL, requested_by="ann", options=RunOptions()
        )
        end_run(services, run.id, state, error)
    (alarm,) = services.alarms.open_alarms()
    assert alarm.text.startswith("Denied. Until a run")


@pytest.mark.parametrize(
    ("closing", "title", "kind", "text"),
    [
        (Closing(), "sent", "success", TOO_LATE.closing),
        (
            Closing(Resolution.EXPIRED, "It has started."),
            "too late: it is too late to fix this",
            "warning",
            "It has started.",
        ),
        (
            Closing(Resolution.SUPERSEDED, "It was withdrawn."),
            "too late: no longer relevant",
            "info",
            "It was withdrawn.",
        ),
    ],
)
def test_a_closed_alarm_says_why_it_was_closed(
    services: Services,
    servers: list[ChannelServer],
    closing: Closing,
    title: str,
    kind: str,
    text: str,
) -> None:
    services.alarms.open(TOO_LATE, "placement 1", "Too late.", services.clock(), placement=1)
    services.alarms.close_others(TOO_LATE, (), services.clock(), lambda _: closing)
    (alarm,) = services.alarms.closed_alarms(10)
    assert (alarm.resolution, alarm.closing) == (closing.resolution, text)
    while deliver_due(services.state, channels(servers), services.clock):
        pass
    last = servers[0].accepted[-1]
    assert (last["title"], last["type"], last["message"]) == (
        f"tis-sync: placement 1: {title}",
        kind,
        text,
    )


def test_an_alarm_that_was_rolled_back_is_not_notified(services: Services) -> None:
    """The notification is written in the transaction of the alarm."""
    with services.state.write() as connection:
        connection.execute(sa.text("DROP TABLE notification"))
    with pytest.raises(sa.exc.DBAPIError):
        fail(services, "because")
    assert services.alarms.open_alarms() == []


def test_a_channel_that_refuses_then_hangs_then_accepts_receives_every_message_in_order(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    first = clock()
    working, broken = servers
    broken.mood = Mood.REFUSE
    fail(services, "because")
    deliver_due(services.state, channels(servers), clock)
    assert (working.titles, broken.attempts, broken.accepted) == ([f"{JOB}: failed"], 1, [])
    services.alarms.close(FAILED, JOB, clock())
    deliver_due(services.state, channels(servers), clock)
    # The closing waits behind the opening, and only on the channel that does not work.
    assert working.titles == [f"{JOB}: failed", f"{JOB}: succeeded"]
    assert broken.attempts == 1
    broken.mood = Mood.HANG
    clock.forward(seconds=RETRY_SECONDS[0])
    deliver_due(services.state, channels(servers), clock)
    assert broken.attempts == 2
    ((channel, late),) = waiting(services.state, channels(servers)).items()
    assert (channel.number, late.count) == (2, 1)
    assert abs(late.since - first) < timedelta(seconds=5)
    broken.mood = Mood.ACCEPT
    clock.forward(minutes=10)
    while deliver_due(services.state, channels(servers), clock):
        pass
    assert broken.titles == working.titles == [f"{JOB}: failed", f"{JOB}: succeeded"]
    assert broken.accepted[0]["message"].endswith(
        f"(Delayed: this is of {late.since:%Y-%m-%d %H:%M} UTC.)"
    )
    assert count_unsent(services.state) == 0


def test_the_waits_grow_and_a_delivery_is_given_up_after_the_last_one(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    assert all(later >= earlier for earlier, later in pairwise(RETRY_SECONDS))
    broken = servers[:1]
    broken[0].mood = Mood.REFUSE
    fail(services, "because")
    deliver_due(services.state, channels(broken), clock)
    for attempt, wait in enumerate(RETRY_SECONDS, start=1):
        clock.forward(seconds=wait - 1)
        deliver_due(services.state, channels(broken), clock)
        assert broken[0].attempts == attempt  # it is not due yet
        clock.forward(seconds=1)
        deliver_due(services.state, channels(broken), clock)
    assert broken[0].attempts == len(RETRY_SECONDS) + 1
    clock.forward(days=3)
    deliver_due(services.state, channels(broken), clock)
    assert broken[0].attempts == len(RETRY_SECONDS) + 1
    assert count_unsent(services.state) == 0


def test_a_notification_claimed_by_a_process_that_died_is_sent_by_another(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    working = servers[:1]
    working[0].mood = Mood.REFUSE
    fail(services, "because")
    deliver_due(services.state, channels(working), clock)
    clock.forward(seconds=RETRY_SECONDS[0])
    with services.state.write() as connection:
        until = clock() + timedelta(seconds=LEASE_SECONDS)
        connection.execute(sa.update(t.notification_delivery).values(claimed_until=until))
    working[0].mood = Mood.ACCEPT
    assert deliver_due(services.state, channels(working), clock) == 0
    clock.forward(seconds=LEASE_SECONDS + 1)
    assert deliver_due(services.state, channels(working), clock) == 1
    assert working[0].titles == [f"{JOB}: failed"]


def test_workers_that_deliver_at_the_same_time_send_nothing_twice(
    services: Services, servers: list[ChannelServer]
) -> None:
    for number in range(30):
        services.alarms.inform(f"message {number}", "text")
    start = threading.Barrier(4)

    def deliver() -> int:
        start.wait()
        sent = 0
        while count := deliver_due(services.state, channels(servers), services.clock):
            sent += count
        return sent

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result() for future in [pool.submit(deliver) for _ in range(4)]]
    assert sum(counts) == 60
    for server in servers:
        assert sorted(server.titles) == sorted(f"message {number}" for number in range(30))


def test_an_alarm_of_a_process_without_channels_is_sent_by_one_that_has_some(
    services: Services, servers: list[ChannelServer]
) -> None:
    fail(services, "because")
    services.deliver()
    assert count_unsent(services.state) == 0  # it has no deliveries yet
    deliver_due(services.state, channels(servers), services.clock)
    assert [server.titles for server in servers] == [[f"{JOB}: failed"]] * 2


def test_a_channel_that_is_configured_later_does_not_receive_old_notifications(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    fail(services, "because")
    with services.state.write() as connection:
        old = clock() - timedelta(hours=NEWEST_HOURS, seconds=1)
        connection.execute(sa.update(t.notification).values(created_at=old))
    services.alarms.close(FAILED, JOB, clock())
    deliver_due(services.state, channels(servers), clock)
    assert servers[0].titles == [f"{JOB}: succeeded"]


def test_a_misspelt_channel_does_not_keep_the_others_from_receiving(
    services: Services, servers: list[ChannelServer]
) -> None:
    urls = ["nonsense", servers[0].url]
    fail(services, "because")
    deliver_due(services.state, channels_of(urls), services.clock)
    assert servers[0].titles == [f"{JOB}: failed"]
    assert count_unsent(services.state) == 0


def test_no_secret_of_a_channel_is_stored_shown_or_logged(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    fail(services, "because")
    urls = ["hunter2", "slak://hunter2/x", "json://user:hunter2@127.0.0.1:9"]
    deliver_due(services.state, channels_of(urls), services.clock)
    assert "notifications not sent" in caplog.text
    assert "hunter2" not in caplog.text
    secret = Channel(2, "slack://TokenA/TokenB")
    assert secret.label == "channel 2 (slack)"
    assert Channel(1, "hunter2").label == "channel 1"
    assert "Token" not in secret.id


def test_a_process_delivers_at_once_and_when_it_stops(
    tmp_path: Path, servers: list[ChannelServer]
) -> None:
    settings = Settings(home=tmp_path, notification_urls=[server.url for server in servers])
    s = Services(settings)
    try:
        with s.delivering():
            fail(s, "because")
            eventually(lambda: servers[0].titles == [f"{JOB}: failed"], 4.0)
            s.alarms.close(FAILED, JOB, s.clock())
        assert servers[1].titles == [f"{JOB}: failed", f"{JOB}: succeeded"]
    finally:
        s.close()


def test_a_channel_that_does_not_answer_never_stops_an_alarm(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, notification_urls=["json://127.0.0.1:9"])
    s = Services(settings)
    assert fail(s, "because")
    s.deliver()
    assert len(s.alarms.open_alarms()) == 1
    s.close()


def test_closed_alarms_and_notifications_are_deleted_after_their_retention(
    services: Services, servers: list[ChannelServer], clock: Clock
) -> None:
    fail(services, "because")
    services.alarms.close(FAILED, JOB, clock())
    services.alarms.open(HELD, JOB, "guard", clock(), impact="people are missing")
    deliver_due(services.state, channels(servers), clock)
    assert services.alarms.prune(clock() + 10 * DAY, 10) == 0
    assert services.alarms.prune(clock() + 11 * DAY, 10) > 0
    assert [alarm.kind for alarm in services.alarms.open_alarms()] == [HELD]
    assert services.alarms.closed_alarms(10) == []
    with services.state.read() as connection:
        for table in (t.notification, t.notification_delivery):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_the_clock_of_the_state_database_is_in_utc(services: Services) -> None:
    first = time_of(services.state)
    assert abs((first - Services(services.settings).clock()).total_seconds()) < 5
    assert time_of(services.state) >= first
