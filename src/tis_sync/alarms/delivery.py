"""The outbox of notifications: each is sent to every channel until the channel has accepted it.

`store` writes a notification in the transaction that opens, escalates or closes its alarm. A
process that has channels then creates one delivery for each channel, so that a channel that fails
neither delays the others nor makes them receive anything twice. A delivery is claimed before it is
sent; if the process dies after sending, another one sends it again (at least once).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
import structlog

from tis_sync.alarms.catalogue import Severity
from tis_sync.db.database import Database
from tis_sync.logs import report
from tis_sync.state import tables as t

log = structlog.get_logger("tis_sync.alarms")

# Waits before a delivery is tried again; after the last one it is given up (after about 20 hours).
RETRY_SECONDS = (
    5, 15, 60, 120, 300, 600, 900, 1800, 3600, 3600, 7200, 14_400, 14_400, 21_600,
)  # fmt: skip
NEWEST_HOURS = 24  # an older notification is not sent to a channel that is configured later
LATE_MINUTES = 5  # a notification that is sent later than this says when it was written
SEND_SECONDS = 30.0  # for one channel to accept one notification
LEASE_SECONDS = 120.0  # a process that has been sending for longer is considered dead
POLL_SECONDS = 5.0  # how often the outbox is read if nothing was written by this process
BATCH = 20  # deliveries that are claimed at a time
JOIN_SECONDS = 15.0  # how long to wait for the last deliveries when the process stops


@dataclass(frozen=True)
class Channel:
    """A notification channel.

    Attributes:
        number: its position in the setting, from 1.
        url: its Apprise URL, which contains secrets.

    """

    number: int
    url: str

    @property
    def id(self) -> str:
        """A name for the state database that reveals nothing of the URL."""
        return sha256(self.url.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A name for messages, without secrets."""
        scheme, separator, _ = self.url.partition("://")
        return f"channel {self.number}" + (f" ({scheme[:20]})" if separator else "")

    def service(self) -> Any | None:
        """Return Apprise's client for the channel; None if the URL is not one of Apprise's."""
        import apprise  # imported on demand: it loads more than a hundred services

        service = apprise.Apprise()
        return service if service.add(self.url) else None


@dataclass(frozen=True)
class Waiting:
    """The deliveries of a channel that have failed and are tried again.

    Attributes:
        count: how many there are.
        since: when the oldest of their notifications was written.

    """

    count: int
    since: datetime


def channels_of(urls: Sequence[str]) -> list[Channel]:
    """Return the channels that the setting names."""
    return [Channel(number, url) for number, url in enumerate(dict.fromkeys(urls), start=1)]


@contextmanager
def delivering(
    state: Database, channels: Sequence[Channel], now: Callable[[], datetime], wake: threading.Event
) -> Iterator[None]:
    """Deliver notifications, in a thread, while the block lasts.

    Args:
        state: the state database.
        channels: the notification channels; without any, nothing happens.
        now: the clock of the state database.
        wake: set when a notification has been written.

    """
    if not channels:
        yield
        return
    stop = threading.Event()

    def loop() -> None:
        while True:
            is_last = stop.is_set()
            try:
                while deliver_due(state, channels, now()):
                    pass
            except Exception as error:  # noqa: BLE001  the state database may return
                report("notifications not delivered", error)
            if is_last:
                return
            wake.wait(POLL_SECONDS)
            wake.clear()

    thread = threading.Thread(target=loop, name="notifications", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        wake.set()
        thread.join(JOIN_SECONDS)


def deliver_due(state: Database, channels: Sequence[Channel], now: datetime) -> int:
    """Try the deliveries that are due, once each.

    If a channel fails, its other deliveries are left for later, so that a channel that does not
    answer does not delay the others.

    Args:
        state: the state database.
        channels: the notification channels of this process.
        now: the current time, by the clock of the state database.

    Returns:
        The number of notifications that were sent.

    """
    _dispatch(state, channels, now)
    by_id = {channel.id: channel for channel in channels}
    failed: set[str] = set()
    sent = 0
    for delivery in _claim(state, list(by_id), now):
        channel = by_id[delivery.channel]
        if channel.id in failed:
            _update(state, delivery, claimed_until=None)
        elif _send(channel, delivery, now):
            _update(state, delivery, finished_at=now, sent=True, claimed_until=None)
            sent += 1
        else:
            failed.add(channel.id)
            _postpone(state, channel, delivery, now)
    return sent


def waiting(state: Database, channels: Sequence[Channel]) -> dict[Channel, Waiting]:
    """Return the channels with deliveries that have failed at least once and still wait."""
    d, n = t.notification_delivery, t.notification
    statement = (
        sa.select(d.c.channel, sa.func.count(), sa.func.min(n.c.created_at))
        .join(n, n.c.id == d.c.notification_id)
        .where(d.c.finished_at.is_(None), d.c.attempts > 0)
        .group_by(d.c.channel)
    )
    with state.read() as connection:
        found = {name: Waiting(count, at) for name, count, at in connection.execute(statement)}
    return {channel: found[channel.id] for channel in channels if channel.id in found}


def count_unsent(state: Database) -> int:
    """Return the number of deliveries that are neither sent nor given up."""
    d = t.notification_delivery
    statement = sa.select(sa.func.count()).select_from(d).where(d.c.finished_at.is_(None))
    with state.read() as connection:
        return int(connection.scalar(statement) or 0)


def _dispatch(state: Database, channels: Sequence[Channel], now: datetime) -> None:
    """Create the deliveries of the notifications that have none yet."""
    n = t.notification
    new = n.c.dispatched_at.is_(None)
    with state.read() as connection:
        if connection.scalar(sa.select(n.c.id).where(new).limit(1)) is None:
            return
    oldest = now - timedelta(hours=NEWEST_HOURS)
    usable = [channel for channel in channels if channel.service() is not None]
    for channel in channels:
        if channel not in usable:
            log.error("notifications not sent", channel=channel.label, reason="not an Apprise URL")
    with state.write() as connection:
        claim = sa.update(n).where(new).values(dispatched_at=now)
        rows = connection.execute(claim.returning(n.c.id, n.c.topic, n.c.created_at)).all()
        deliveries = [
            {"notification_id": row.id, "channel": channel.id, "topic": row.topic, "due_at": now}
            for row in rows
            if row.created_at >= oldest
            for channel in usable
        ]
        if deliveries:
            connection.execute(sa.insert(t.notification_delivery), deliveries)


def _claim(state: Database, channels: Sequence[str], now: datetime) -> list[Any]:
    """Claim deliveries that are due; those of one topic and channel one by one, in order."""
    d, n = t.notification_delivery, t.notification
    earlier = t.notification_delivery.alias()
    is_free = sa.and_(
        d.c.finished_at.is_(None),
        sa.or_(d.c.claimed_until.is_(None), d.c.claimed_until < now),
    )
    is_blocked = sa.exists().where(
        earlier.c.channel == d.c.channel,
        earlier.c.topic == d.c.topic,
        earlier.c.notification_id < d.c.notification_id,
        earlier.c.finished_at.is_(None),
    )
    due = (
        sa.select(d.c.notification_id, d.c.channel)
        .where(is_free, d.c.due_at <= now, d.c.channel.in_(channels), ~is_blocked)
        .order_by(d.c.notification_id, d.c.channel)
        .limit(BATCH)
    )
    with state.read() as connection:
        keys = [tuple(row) for row in connection.execute(due)]
    if not keys:
        return []
    key = sa.tuple_(d.c.notification_id, d.c.channel)
    claim = (
        sa.update(d)
        .where(key.in_(keys), is_free)
        .values(claimed_until=now + timedelta(seconds=LEASE_SECONDS))
        .returning(d.c.notification_id, d.c.channel)
    )
    with state.write() as connection:
        claimed = [tuple(row) for row in connection.execute(claim)]
        statement = (
            sa.select(d, n.c.severity, n.c.title, n.c.text, n.c.created_at)
            .join(n, n.c.id == d.c.notification_id)
            .where(key.in_(claimed))
            .order_by(d.c.notification_id)
        )
        return list(connection.execute(statement)) if claimed else []


def _send(channel: Channel, delivery: Any, now: datetime) -> bool:
    """Send a notification to a channel; return whether the channel accepted it."""
    service = channel.service()
    if service is None:
        return False
    text = delivery.text
    if now - delivery.created_at > timedelta(minutes=LATE_MINUTES):
        text += f" (Delayed: this is of {delivery.created_at:%Y-%m-%d %H:%M} UTC.)"
    result = service.notify(
        title=f"tis-sync: {delivery.title}",
        body=text,
        notify_type=Severity(delivery.severity).value,
        timeout=SEND_SECONDS,
    )
    return bool(result)


def _postpone(state: Database, channel: Channel, delivery: Any, now: datetime) -> None:
    """Have a delivery tried again after a wait that grows, or give it up."""
    attempts = delivery.attempts + 1
    if attempts > len(RETRY_SECONDS):
        _update(state, delivery, attempts=attempts, finished_at=now, claimed_until=None)
        log.error(
            "notification given up",
            channel=channel.label,
            alarm=delivery.title,
            attempts=attempts,
        )
        return
    wait = RETRY_SECONDS[attempts - 1]
    due_at = now + timedelta(seconds=wait)
    _update(state, delivery, attempts=attempts, due_at=due_at, claimed_until=None)
    log.warning(
        "notification not sent",
        channel=channel.label,
        reason="the channel refused it or did not answer",
        alarm=delivery.title,
        retry_in_seconds=wait,
    )


def _update(state: Database, delivery: Any, **values: Any) -> None:
    d = t.notification_delivery
    statement = sa.update(d).where(
        d.c.notification_id == delivery.notification_id, d.c.channel == delivery.channel
    )
    with state.write() as connection:
        connection.execute(statement.values(**values))
