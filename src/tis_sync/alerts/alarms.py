"""Alarms: raised once, open until what is wrong is mended, then closed.

| kind | subject | meaning |
|---|---|---|
| failed | job | its last run failed |
| held | job | the guard holds its plan |
| overdue | job | it has not succeeded since its last time, and its due time is over |
| silent | scheduler | no worker with schedules lives |
| slow | job | its run takes unusually long |
| size | job | its index differs unusually from the usual size |
| set aside | job | many records could not be used |
| drift | what | `tis_sync.doctor` found it other than it should be |

Those of the export to ESR: `tis_sync.esr.watch`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.alerts.send import send
from tis_sync.state import tables as t


@dataclass(frozen=True)
class Alarm:
    """One alarm. `closed_at` is None while it is open."""

    kind: str
    subject: str
    text: str
    raised_at: datetime
    closed_at: datetime | None
    run_id: str | None


class Alarms:
    """The alarms in a state database.

    Args:
        engine: the state database.
        urls: where new and closed alarms are sent to.

    """

    def __init__(self, engine: sa.Engine, urls: Sequence[str] = ()) -> None:
        self._engine = engine
        self._urls = urls

    def raise_(
        self, kind: str, subject: str, text: str, now: datetime, run_id: str | None = None
    ) -> bool:
        """Open an alarm and tell people; False, and nobody is told, if it is open already."""
        try:
            with self._engine.execution_options(writes=True).begin() as connection:
                connection.execute(
                    sa.insert(t.alarm).values(
                        kind=kind,
                        subject=subject,
                        open_key=f"{kind}/{subject}",
                        raised_at=now,
                        run_id=run_id,
                        text=text,
                    )
                )
        except IntegrityError:
            return False
        send(self._urls, f"{subject} {kind}", text)
        return True

    def close(self, kind: str, subject: str, now: datetime) -> bool:
        """Close an alarm and tell people; False if it was not open."""
        with self._engine.execution_options(writes=True).begin() as connection:
            result = connection.execute(
                sa.update(t.alarm)
                .where(t.alarm.c.open_key == f"{kind}/{subject}")
                .values(open_key=None, closed_at=now)
            )
        if result.rowcount:
            send(self._urls, f"{subject} no longer {kind}", "Mended.", level="info")
        return bool(result.rowcount)

    def close_others(self, kind: str, subjects: Collection[str], now: datetime) -> None:
        """Close the open alarms of a kind but for those of some subjects."""
        statement = sa.select(t.alarm.c.subject).where(
            t.alarm.c.open_key.is_not(None), t.alarm.c.kind == kind
        )
        with self._engine.connect() as connection:
            over = [name for name in connection.scalars(statement) if name not in subjects]
        for subject in over:
            self.close(kind, subject, now)

    def open(self) -> list[Alarm]:
        """The alarms that are open, oldest first."""
        statement = (
            sa.select(t.alarm).where(t.alarm.c.open_key.is_not(None)).order_by(t.alarm.c.raised_at)
        )
        return self._all(statement)

    def closed(self, limit: int) -> list[Alarm]:
        """The last alarms that were closed, the newest first."""
        over = sa.select(t.alarm).where(t.alarm.c.open_key.is_(None))
        return self._all(over.order_by(t.alarm.c.closed_at.desc(), t.alarm.c.id).limit(limit))

    def _all(self, statement: sa.Select[Any]) -> list[Alarm]:
        with self._engine.connect() as connection:
            return [
                Alarm(row.kind, row.subject, row.text, row.raised_at, row.closed_at, row.run_id)
                for row in connection.execute(statement)
            ]
