"""The outbox of notifications: each is sent to every channel until the channel has accepted it.

`store` writes a notification in the transaction that opens, escalates or closes its alarm. A
process that has channels then creates one delivery for each channel, so that a channel that fails
neither delays the others nor makes them receive anything twice. Each delivery is claimed just
before it is sent; if the process dies after sending, another one sends it again (at least once).

A channel is known by its URL. So a channel whose URL was corrected is a new one: it receives the
alarms that are open, and what waits for the old one ends.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from tis_sync.alarms.catalogue import Severity
from tis_sync.alarms.channels import Channel
from tis_sync.db.database import Database
from tis_sync.logs import report
from tis_sync.state import tables as t

log = structlog.get_logger("tis_sync.alarms")

# Waits before a delivery is tried again; after the last one it is given up (after about 20 hours).
RETRY_SECONDS = (
    5, 15, 60, 120, 300, 600, 900, 1800, 3600, 3600, 7200, 14_400, 14_400, 21_600,
)  # fmt: skip
NEWEST_HOURS = 24  # an older notification is sent to no channel any more
LATE_MINUTES = 5  # a notification that is sent later than this says when it was written
LEASE_SECONDS = 120.0  # after this time another process may send it
POLL_SECONDS = 5.0  # how often the outbox is read if nothing was written by this process
BATCH = 20  # deliveries that are looked at to find one that no other process claims
JOIN_SECONDS = 15.0  # how long to wait for the last deliveries when the process stops


@dataclass(frozen=True)
class Waiting:
    """The deliveries of a channel that have failed and are tried again.

    Attributes:
        count: how many there are.
        since: when the oldest of their notifications was written.

    """

    count: int
    since: datetime


@contextmanager
def delivering(
    state: Database,
    channels: Sequence[Channel],
    now: Callable[[], datetime],
    wake: threading.Event,
    *,
    is_worker: bool,
) -> Iterator[None]:
    """Deliver notifications, in a thread, while the block lasts.

    Args:
        state: the state database.
        channels: the notification channels; without any, nothing happens.
        now: the clock of the state database.
        wake: set when a notification has been written.
        is_worker: whether the setting of this process decides which channels there are: what waits
            for others ends.

    """
    if not channels:
        yield
        return
    stop = threading.Event()

    def loop() -> None:
        ends_others = is_worker
        while True:
            is_last = stop.is_set()
            try:
                if ends_others:
                    _end_unconfigured(state, channels, now())
                    ends_others = False
                while deliver_due(state, channels, now):
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


def deliver_due(state: Database, channels: Sequence[Channel], now: Callable[[], datetime]) -> int:
    """Send each channel the next notification that is due for it.

    If a channel fails, everything that waits for it is left for later, so that a channel that does
    not answer does not delay the others.

    Args:
        state: the state database.
        channels: the notification channels of this process.
        now: the clock of the state database.

    Returns:
        The number of notifications that were sent. Unless it is 0, more may be due.

    """
    _dispatch(state, channels, now())
    sent = 0
    for channel in channels:
        delivery = _claim(state, channel, now())
        if delivery is None:
            continue
        if _send(channel, delivery, now()):
            _update(state, delivery, finished_at=now(), sent=True)
            sent += 1
        else:
            _postpone(state, channel, delivery, now())
    return sent


def give_up_old(state: Database, now: datetime) -> int:
    """Give up the deliveries of old notifications that no process is sending; return their number.

    Args:
        state: the state database.
        now: the current time.

    """
    d, n = t.notification_delivery, t.notification
    old = sa.select(n.c.id).where(n.c.created_at < now - timedelta(hours=NEWEST_HOURS))
    return _end(state, now, d.c.notification_id.in_(old))


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


def _end_unconfigured(state: Database, channels: Sequence[Channel], now: datetime) -> None:
    """End what waits for channels that are no longer configured.

    A worker does this once, when it begins to deliver: a worker that was started later may know
    channels that it does not.
    """
    known = [channel.id for channel in channels]
    if count := _end(state, now, t.notification_delivery.c.channel.not_in(known)):
        log.warning("notifications of channels that are no longer configured ended", count=count)


def _end(state: Database, now: datetime, which: sa.ColumnElement[bool]) -> int:
    """End the deliveries that meet a condition, unless a process is sending them."""
    d = t.notification_delivery
    ended = sa.update(d).where(_is_free(now), which).values(finished_at=now)
    with state.write() as connection:
        return int(connection.execute(ended).rowcount)


def _is_free(now: datetime) -> sa.ColumnElement[bool]:
    """Whether a delivery is unfinished, and no process that may be alive is sending it."""
    d = t.notification_delivery
    is_unclaimed = sa.or_(d.c.claimed_until.is_(None), d.c.claimed_until < now)
    return sa.and_(d.c.finished_at.is_(None), is_unclaimed)


def _dispatch(state: Database, channels: Sequence[Channel], now: datetime) -> None:
    """Create the deliveries of new notifications, and those of open alarms to new channels."""
    n = t.notification
    is_new = n.c.dispatched_at.is_(None)
    with state.read() as connection:
        has_new = connection.scalar(sa.select(n.c.id).where(is_new).limit(1)) is not None
        if not has_new and not _new_channels(connection, channels):
            return
    oldest = now - timedelta(hours=NEWEST_HOURS)
    usable = [channel for channel in channels if channel.is_usable]
    for channel in channels:
        if not channel.is_usable:
            log.error("notifications not sent", channel=channel.label, reason="not an Apprise URL")
    with state.write() as connection:
        # Of two processes that see a new channel at the same time, one waits for the other here.
        alarms = connection.execute(OPEN_ALARMS.with_for_update()).all()
        added = _new_channels(connection, usable)
        claim = sa.update(n).where(is_new).values(dispatched_at=now)
        rows = connection.execute(claim.returning(n.c.id, n.c.topic, n.c.created_at)).all()
        recent = [row for row in rows if row.created_at >= oldest]
        deliveries = [_delivery(row.id, row.topic, c, now) for row in recent for c in usable]
        topics = {row.topic for row in recent}
        for alarm in alarms if added else ():
            if alarm.open_key not in topics:
                again = _notify_again(connection, alarm, now)
                deliveries += [_delivery(again, alarm.open_key, c, now) for c in added]
        if deliveries:
            connection.execute(sa.insert(t.notification_delivery), deliveries)


OPEN_ALARMS = sa.select(t.alarm).where(t.alarm.c.open_key.is_not(None)).order_by(t.alarm.c.id)


def _new_channels(connection: sa.Connection, channels: Sequence[Channel]) -> list[Channel]:
    """The usable channels that have never had a delivery, while there are open alarms."""
    if connection.execute(OPEN_ALARMS.limit(1)).first() is None:
        return []
    d = t.notification_delivery
    seen = sa.select(d.c.channel).limit(1)
    return [
        channel
        for channel in channels
        if channel.is_usable and connection.scalar(seen.where(d.c.channel == channel.id)) is None
    ]


def _notify_again(connection: sa.Connection, alarm: Any, now: datetime) -> int:
    """Write a notification about an open alarm for channels that are new; return its id."""
    notification = sa.insert(t.notification).values(
        topic=alarm.open_key,
        severity=alarm.severity,
        title=f"{alarm.subject}: {alarm.kind} (still open)",
        text=f"Open since {alarm.raised_at:%Y-%m-%d %H:%M} UTC. {alarm.text}",
        created_at=now,
        dispatched_at=now,
    )
    return int(connection.execute(notification.returning(t.notification.c.id)).scalar_one())


def _delivery(notification: int, topic: str | None, channel: Channel, now: datetime) -> Any:
    return {
        "notification_id": notification, "channel": channel.id, "topic": topic, "due_at": now,
    }  # fmt: skip


def _claim(state: Database, channel: Channel, now: datetime) -> Any | None:
    """Claim the next delivery of a channel that is due; those of one topic are in order.

    The next one is the one that has failed least, so that a notification that its channel refuses
    does not hold back the others.
    """
    d, n = t.notification_delivery, t.notification
    earlier = t.notification_delivery.alias()
    is_blocked = sa.exists().where(
        earlier.c.channel == d.c.channel,
        earlier.c.topic == d.c.topic,
        earlier.c.notification_id < d.c.notification_id,
        earlier.c.finished_at.is_(None),
    )
    is_ours = d.c.channel == channel.id
    due = (
        sa.select(d.c.notification_id)
        .where(_is_free(now), is_ours, d.c.due_at <= now, ~is_blocked)
        .order_by(d.c.attempts, d.c.notification_id)
        .limit(BATCH)
    )
    with state.read() as connection:
        ids = list(connection.scalars(due))
    claim = sa.update(d).where(_is_free(now), is_ours)
    until = now + timedelta(seconds=LEASE_SECONDS)
    for notification in ids:
        of_it = d.c.notification_id == notification
        with state.write() as connection:
            if connection.execute(claim.where(of_it).values(claimed_until=until)).rowcount:
                statement = (
                    sa.select(d, n.c.severity, n.c.title, n.c.text, n.c.created_at)
                    .join(n, n.c.id == d.c.notification_id)
                    .where(of_it, is_ours)
                )
                return connection.execute(statement).one()
    return None


def _send(channel: Channel, delivery: Any, now: datetime) -> bool:
    """Send a notification to a channel; return whether the channel accepted it."""
    text = delivery.text
    if now - delivery.created_at > timedelta(minutes=LATE_MINUTES):
        text += f" (Delayed: this is of {delivery.created_at:%Y-%m-%d %H:%M} UTC.)"
    return channel.send(f"tis-sync: {delivery.title}", text, Severity(delivery.severity))


def _postpone(state: Database, channel: Channel, delivery: Any, now: datetime) -> None:
    """Have a delivery tried again after a wait that grows, or give it up.

    What else waits for the channel waits as long: one attempt shows that the channel fails.
    """
    attempts = delivery.attempts + 1
    is_given_up = attempts > len(RETRY_SECONDS)
    wait = 0.0 if is_given_up else RETRY_SECONDS[attempts - 1]
    due_at = now + timedelta(seconds=wait)
    finished_at = now if is_given_up else None
    _update(state, delivery, attempts=attempts, due_at=due_at, finished_at=finished_at)
    d = t.notification_delivery
    others = sa.update(d).where(
        d.c.channel == channel.id, d.c.finished_at.is_(None), d.c.due_at < due_at
    )
    with state.write() as connection:
        connection.execute(others.values(due_at=due_at))
    if count := give_up_old(state, now):
        log.error("old notifications given up", count=count, hours=NEWEST_HOURS)
    if is_given_up:
        log.error(
            "notification given up",
            channel=channel.label,
            alarm=delivery.title,
            attempts=attempts,
        )
        return
    log.warning(
        "notification not sent",
        channel=channel.label,
        reason="the channel refused it or did not answer",
        alarm=delivery.title,
        retry_in_seconds=wait,
    )


def _update(state: Database, delivery: Any, **values: Any) -> None:
    """Record the outcome of a delivery and end its claim, unless another process has claimed it."""
    d = t.notification_delivery
    statement = sa.update(d).where(
        d.c.notification_id == delivery.notification_id,
        d.c.channel == delivery.channel,
        d.c.claimed_until == delivery.claimed_until,
    )
    with state.write() as connection:
        connection.execute(statement.values(claimed_until=None, **values))
