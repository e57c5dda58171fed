"""The monitor of messaging: a silent broker, dead letters, and events that remain unsent.

Other machines may have written the times that it compares, so it uses the state database's clock.
"""

from datetime import datetime, timedelta

from tis_sync.alarms.catalogue import BROKER_SILENT, DEAD_LETTERS, EVENTS_UNSENT
from tis_sync.esr.messaging import dead_letters, outbox
from tis_sync.esr.messaging.connection import redacted_url, url_of
from tis_sync.esr.messaging.consumer import BROKER, last_contact
from tis_sync.runs.services import Services
from tis_sync.state.clock import time_of

SILENT_SECONDS = 20.0  # checked every half minute, so an alarm opens within a minute
UNSENT_MINUTES = 5.0


def check_messages(s: Services) -> None:
    """Open and close the alarms of messaging; do nothing if no broker is configured."""
    if s.settings.broker_url is None:
        return
    now = s.clock()
    _check_contact(s, now)
    _check_events(s, now)
    _check_dead_letters(s, now)


def _check_contact(s: Services, now: datetime) -> None:
    last = last_contact(s.state)
    silence = now - s.started_at if last is None else time_of(s.state) - last
    if silence < timedelta(seconds=SILENT_SECONDS):
        if last is not None:
            s.alarms.close(BROKER_SILENT, BROKER, now)
        return
    address = redacted_url(url_of(s.settings))
    details = f"No consumer has ever reached the broker at {address}."
    if last is not None:
        details = (
            f"No consumer has reached the broker at {address} since {last:%Y-%m-%d %H:%M:%S} UTC."
        )
    s.alarms.open(BROKER_SILENT, BROKER, details, now)


def _check_events(s: Services, now: datetime) -> None:
    number, oldest = outbox.unsent(s.state)
    if oldest is None or time_of(s.state) - oldest < timedelta(minutes=UNSENT_MINUTES):
        s.alarms.close(EVENTS_UNSENT, BROKER, now)
        return
    details = (
        f"The broker has not confirmed {number:,} events; the oldest one has been waiting since "
        f"{oldest:%Y-%m-%d %H:%M} UTC."
    )
    s.alarms.open(EVENTS_UNSENT, BROKER, details, now)


def _check_dead_letters(s: Services, now: datetime) -> None:
    oldest = dead_letters.oldest_per_queue(s.state)
    for queue, reason in oldest.items():
        details = dead_letters.alarm_details(queue, reason)
        s.alarms.open(DEAD_LETTERS, queue, details, now)
    s.alarms.close_others(DEAD_LETTERS, oldest, now)
