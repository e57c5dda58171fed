"""The alarms in the state database: each is opened once, and closed when the problem has gone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.alarms.catalogue import KIND_BY_NAME, AlarmKind
from tis_sync.alarms.delivery import notify
from tis_sync.db.database import Database
from tis_sync.state import tables as t


@dataclass(frozen=True)
class Alarm:
    """One alarm; `closed_at` is None while it is open. Times are UTC."""

    kind: AlarmKind
    subject: str
    text: str
    raised_at: datetime
    closed_at: datetime | None
    run_id: str | None


class Alarms:
    """The alarms of one installation.

    Args:
        state: the state database.
        channels: notification channels for opened and closed alarms, as Apprise URLs.

    """

    def __init__(self, state: Database, channels: Sequence[str] = ()) -> None:
        self._state = state
        self._channels = channels

    def open(
        self,
        kind: AlarmKind,
        subject: str,
        details: str,
        now: datetime,
        *,
        run_id: str | None = None,
        **values: object,
    ) -> bool:
        """Open an alarm and send notifications, unless it is already open.

        Args:
            kind: a kind from the catalogue.
            subject: what the alarm is about; a subject has at most one open alarm of a kind.
            details: what was found, in whole sentences.
            now: the current time.
            run_id: the run that the alarm is about, if there is one.
            values: the values that the templates of the kind need.

        Returns:
            False if the alarm was already open; nothing is sent then.

        """
        text = kind.text(subject, details, **values)
        try:
            with self._state.write() as connection:
                connection.execute(
                    sa.insert(t.alarm).values(
                        kind=kind.name,
                        subject=subject,
                        open_key=_open_key(kind, subject),
                        raised_at=now,
                        run_id=run_id,
                        text=text,
                    )
                )
        except IntegrityError:
            return False
        notify(self._channels, f"{subject}: {kind.name}", text)
        return True

    def close(self, kind: AlarmKind, subject: str, now: datetime) -> bool:
        """Close an alarm and send notifications.

        Returns:
            False if the alarm was not open.

        """
        with self._state.write() as connection:
            result = connection.execute(
                sa.update(t.alarm)
                .where(t.alarm.c.open_key == _open_key(kind, subject))
                .values(open_key=None, closed_at=now)
            )
        if result.rowcount:
            title = f"{subject}: no longer {kind.name}"
            notify(self._channels, title, kind.closing, level="info")
        return bool(result.rowcount)

    def close_others(self, kind: AlarmKind, subjects: Collection[str], now: datetime) -> None:
        """Close the open alarms of a kind except those of the given subjects."""
        for alarm in self.open_alarms():
            if alarm.kind == kind and alarm.subject not in subjects:
                self.close(kind, alarm.subject, now)

    def open_alarms(self) -> list[Alarm]:
        """The open alarms, oldest first."""
        statement = (
            sa.select(t.alarm).where(t.alarm.c.open_key.is_not(None)).order_by(t.alarm.c.raised_at)
        )
        return self._alarms(statement)

    def closed_alarms(self, limit: int) -> list[Alarm]:
        """The most recently closed alarms, newest first."""
        closed = sa.select(t.alarm).where(t.alarm.c.open_key.is_(None))
        return self._alarms(closed.order_by(t.alarm.c.closed_at.desc(), t.alarm.c.id).limit(limit))

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
                )
                for row in connection.execute(statement)
            ]


def _open_key(kind: AlarmKind, subject: str) -> str:
    """Return a key that is unique among open alarms, so that only one worker can open each."""
    return f"{kind.name}/{subject}"
