"""The alarms in the state database: each is opened once, and closed when the problem has gone."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from tis_sync.alarms.catalogue import KIND_BY_NAME, AlarmKind, Resolution, Severity
from tis_sync.db.database import Database
from tis_sync.state import tables as t
from tis_sync.state.clock import time_in

log = structlog.get_logger("tis_sync.alarms")

RANK = list(Severity)  # from harmless to serious
TITLE_OF_CLOSED = {
    Resolution.RESOLVED: "{kind.closing_title}",
    Resolution.EXPIRED: "{kind.name}: it is too late to fix this",
    Resolution.SUPERSEDED: "{kind.name}: no longer relevant",
}
SEVERITY_OF_CLOSED = {
    Resolution.RESOLVED: Severity.SUCCESS,
    Resolution.EXPIRED: Severity.WARNING,
    Resolution.SUPERSEDED: Severity.INFO,
}
LOG_LEVEL = {Severity.FAILURE: "error", Severity.WARNING: "warning"}


@dataclass(frozen=True)
class Closing:
    """Why an alarm is closed.

    Attributes:
        resolution: the reason, in one word.
        text: the reason, in whole sentences. None: the closing text of the kind.

    """

    resolution: Resolution = Resolution.RESOLVED
    text: str | None = None


RESOLVED = Closing()


@dataclass(frozen=True)
class Alarm:
    """One alarm; `closed_at` is None while it is open. Times are UTC.

    Attributes:
        kind: what is wrong.
        subject: what it is about.
        text: details, impact and remedy, as last found.
        raised_at: when it was opened.
        closed_at: when it was closed.
        run_id: the run that it is about, if there is one.
        severity: the highest severity since it was opened.
        resolution: why it was closed. None: it is open, or an earlier version closed it.
        closing: the same, in whole sentences.

    """

    kind: AlarmKind
    subject: str
    text: str
    raised_at: datetime
    closed_at: datetime | None
    run_id: str | None
    severity: Severity = Severity.FAILURE
    resolution: Resolution | None = None
    closing: str | None = None


class Alarms:
    """The alarms of one installation.

    Args:
        state: the state database.
        on_notification: called after a notification has been written to the outbox.

    """

    def __init__(self, state: Database, on_notification: Callable[[], None] = lambda: None) -> None:
        self._state = state
        self._on_notification = on_notification

    def open(
        self,
        kind: AlarmKind,
        subject: str,
        details: str,
        now: datetime,
        *,
        run_id: str | None = None,
        severity: Severity | None = None,
        **values: object,
    ) -> bool:
        """Open an alarm, or update the text of an open one.

        People are notified if it is opened, or if its severity rises.

        Args:
            kind: a kind from the catalogue.
            subject: what the alarm is about; a subject has at most one open alarm of a kind.
            details: what was found, in whole sentences.
            now: the current time.
            run_id: the run that the alarm is about, if there is one.
            severity: how serious it is. None: the severity of the kind.
            values: the values that the templates of the kind need.

        Returns:
            Whether people are notified.

        """
        found = Alarm(
            kind,
            subject,
            kind.text(subject, details, **values),
            now,
            None,
            run_id,
            kind.severity if severity is None else severity,
        )
        # Monitors repeat what they find every half minute; most of the time nothing has changed.
        with self._state.read() as connection:
            if _changes(_open_row(connection, kind, subject), found) is None:
                return False
        try:
            title = self._write(found)
        except IntegrityError:  # another process has just opened it
            title = self._write(found)
        if title is None:
            return False
        getattr(log, LOG_LEVEL.get(found.severity, "info"))(title, detail=found.text)
        self._on_notification()
        return True

    def _write(self, found: Alarm) -> str | None:
        """Insert or update the row of an alarm; return the title of the notification, if any."""
        kind, subject = found.kind, found.subject
        with self._state.write() as connection:
            row = _open_row(connection, kind, subject, lock=True)
            if row is None:
                title = f"{subject}: {kind.name}"
                connection.execute(
                    sa.insert(t.alarm).values(
                        kind=kind.name,
                        subject=subject,
                        open_key=_open_key(kind, subject),
                        raised_at=found.raised_at,
                        run_id=found.run_id,
                        severity=found.severity,
                        text=found.text,
                    )
                )
            else:
                changes = _changes(row, found)
                if changes is None:
                    return None
                connection.execute(
                    sa.update(t.alarm).where(t.alarm.c.id == row.id).values(**changes)
                )
                if "severity" not in changes:
                    return None
                title = f"{subject}: {kind.name} (escalated)"
            topic = _open_key(kind, subject)
            _notify(connection, found.severity, title, found.text, topic)
        return title

    def close(
        self, kind: AlarmKind, subject: str, now: datetime, closing: Closing = RESOLVED
    ) -> bool:
        """Close an alarm, and notify people.

        Args:
            kind: its kind.
            subject: what it is about.
            now: the current time.
            closing: why it is closed.

        Returns:
            False if the alarm was not open.

        """
        with self._state.read() as connection:
            if _open_row(connection, kind, subject) is None:
                return False
        key = _open_key(kind, subject)
        text = closing.text or kind.closing
        title = f"{subject}: {TITLE_OF_CLOSED[closing.resolution].format(kind=kind)}"
        with self._state.write() as connection:
            result = connection.execute(
                sa.update(t.alarm)
                .where(t.alarm.c.open_key == key)
                .values(open_key=None, closed_at=now, resolution=closing.resolution, closing=text)
            )
            if not result.rowcount:
                return False
            severity = SEVERITY_OF_CLOSED[closing.resolution]
            _notify(connection, severity, title, text, key)
        log.info(title, detail=text)
        self._on_notification()
        return True

    def close_others(
        self,
        kind: AlarmKind,
        subjects: Collection[str],
        now: datetime,
        closing_of: Callable[[Alarm], Closing] = lambda _: RESOLVED,
    ) -> None:
        """Close the open alarms of a kind except those of the given subjects.

        Args:
            kind: the kind.
            subjects: the alarms of these subjects stay open.
            now: the current time.
            closing_of: says why an alarm is closed.

        """
        for alarm in self.open_alarms(kind):
            if alarm.subject not in subjects:
                self.close(kind, alarm.subject, now, closing_of(alarm))

    def inform(self, title: str, text: str) -> None:
        """Send people a message that is not an alarm."""
        with self._state.write() as connection:
            _notify(connection, Severity.INFO, title, text, None)
        log.info(title, detail=text)
        self._on_notification()

    def open_alarms(self, kind: AlarmKind | None = None) -> list[Alarm]:
        """The open alarms, of one kind or of all, oldest first."""
        statement = sa.select(t.alarm).where(t.alarm.c.open_key.is_not(None))
        if kind is not None:
            statement = statement.where(t.alarm.c.kind == kind.name)
        return self._alarms(statement.order_by(t.alarm.c.raised_at, t.alarm.c.id))

    def closed_alarms(self, limit: int) -> list[Alarm]:
        """The most recently closed alarms, newest first."""
        closed = sa.select(t.alarm).where(t.alarm.c.open_key.is_(None))
        return self._alarms(closed.order_by(t.alarm.c.closed_at.desc(), t.alarm.c.id).limit(limit))

    def prune(self, now: datetime, days: int) -> int:
        """Delete alarms that were closed, and notifications that were written, long ago.

        Returns:
            The number of rows deleted.

        """
        oldest = now - timedelta(days=days)
        expired = sa.select(t.notification.c.id).where(t.notification.c.created_at < oldest)
        delivery = t.notification_delivery
        statements = (
            sa.delete(t.alarm).where(t.alarm.c.open_key.is_(None), t.alarm.c.closed_at < oldest),
            sa.delete(delivery).where(delivery.c.notification_id.in_(expired)),
            sa.delete(t.notification).where(t.notification.c.created_at < oldest),
        )
        with self._state.write() as connection:
            return sum(int(connection.execute(one).rowcount) for one in statements)

    def _alarms(self, statement: sa.Select[Any]) -> list[Alarm]:
        with self._state.read() as connection:
            return [
                Alarm(
                    KIND_BY_NAME[row.kind],
                    row.subject,
                    row.text,
                    row.raised_at,
                    row.closed_at,
                    row.run_id,
                    Severity(row.severity),
                    None if row.resolution is None else Resolution(row.resolution),
                    row.closing,
                )
                for row in connection.execute(statement)
            ]


def _open_key(kind: AlarmKind, subject: str) -> str:
    """Return a key that is unique among open alarms, so that only one worker can open each."""
    return f"{kind.name}/{subject}"


def _open_row(
    connection: sa.Connection, kind: AlarmKind, subject: str, *, lock: bool = False
) -> Any:
    statement = sa.select(t.alarm).where(t.alarm.c.open_key == _open_key(kind, subject))
    return connection.execute(statement.with_for_update() if lock else statement).one_or_none()


def _changes(row: Any, found: Alarm) -> dict[str, Any] | None:
    """What differs between the row of an open alarm and what was found.

    Returns:
        The columns to update; None if nothing differs. `severity` is among them if it rises.

    """
    if row is None:
        return {}
    changes: dict[str, Any] = {}
    if row.text != found.text:
        changes["text"] = found.text
    if row.run_id != found.run_id:
        changes["run_id"] = found.run_id
    if RANK.index(found.severity) > RANK.index(Severity(row.severity)):
        changes["severity"] = found.severity
    return changes or None


def _notify(
    connection: sa.Connection,
    severity: Severity,
    title: str,
    text: str,
    topic: str | None,
) -> None:
    """Write a notification to the outbox; its time is that of the state database."""
    connection.execute(
        sa.insert(t.notification).values(
            topic=topic,
            severity=severity,
            title=title,
            text=text,
            created_at=time_in(connection),
        )
    )
