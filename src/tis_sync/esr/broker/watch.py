"""Alarms for messages: nothing heard from the broker, dead letters, events that do not go out.

| kind | subject | meaning |
|---|---|---|
| not heard | broker | no listener has reached the broker for a while, or none works |
| dead letters | queue | messages that could not be used wait for a person |
| events unsent | broker | the broker has not confirmed events for a while |
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.esr.broker import letters, outbox
from tis_sync.esr.broker.connect import shown, url_of
from tis_sync.esr.broker.intake import KIND, alarm
from tis_sync.esr.broker.listen import BROKER, last_heard, listening
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.services import Services
from tis_sync.state.tables import worker

SILENT_SECONDS = 20.0  # with a look every half minute: told within a minute
UNSENT_MINUTES = 5.0


def watch(s: Services) -> None:
    """Raise and close the alarms of the broker."""
    if s.settings.broker_url is None:
        return
    now = s.clock()
    _not_heard(s, now)
    _unsent(s, now)
    waiting = letters.first_of_each(s.state)
    for queue, reason in waiting.items():
        alarm(s, queue, reason, now)
    s.alarms.close_others(KIND, waiting, now)


def _not_heard(s: Services, now: datetime) -> None:
    last = last_heard(s.state)
    since = last or _began(s) or now
    if now - since < timedelta(seconds=SILENT_SECONDS):
        if last is not None:
            s.alarms.close("not heard", BROKER, now)
        return
    when = "at all" if last is None else f"since {last:%Y-%m-%d %H:%M:%S} UTC"
    s.alarms.raise_(
        "not heard",
        BROKER,
        f"Nothing was heard from the broker ({shown(url_of(s.settings))}) {when}: commands and "
        "records sent to us wait there, events wait here; nothing is lost. Is it up, and does "
        "`tis-sync work` or `tis-sync esr listen` run? `tis-sync doctor` says more.",
        now,
    )


def _began(s: Services) -> datetime | None:
    """When this worker began to work."""
    started = sa.select(worker.c.started_at).where(worker.c.id == s.worker_id)
    with s.state.connect() as connection:
        found: datetime | None = connection.scalar(started)
    return found


def _unsent(s: Services, now: datetime) -> None:
    count, oldest = outbox.oldest_unsent(s.state)
    if oldest is None or now - oldest < timedelta(minutes=UNSENT_MINUTES):
        s.alarms.close("events unsent", BROKER, now)
        return
    s.alarms.raise_(
        "events unsent",
        BROKER,
        f"{count:,} events wait since {oldest:%Y-%m-%d %H:%M} UTC: the broker does not confirm "
        "them (memory, disk, a queue that is gone?). They go by themselves when it does; "
        "`tis-sync doctor` says more.",
        now,
    )


REGISTRY.watches.append(watch)
REGISTRY.companions.append(listening)
