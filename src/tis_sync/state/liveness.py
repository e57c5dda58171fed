"""Which workers are alive: registrations, heartbeats, claims on dead workers, and fencing.

Liveness compares times of one clock, that of the state database (`clock.py`), so that the clocks of
the machines may differ. (Only one process at a time works in an SQLite file, so the process's own
clock is used there.)

A worker that was declared dead may come back: its machine was suspended, or the network was down.
So each registration has an id of its own, and work remembers under which registration it began.
Before such work changes anything outside, it calls its `Fence`, which stops it if that registration
has ended. (This is fencing, as in a distributed lock service.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.state import tables as t
from tis_sync.state.clock import current_time

ACTIVE_STATES = ("queued", "running")  # of a run


class WorkLostError(BaseException):
    """The work must stop and record nothing.

    Not an `Exception`, so that no handler takes it for the outcome of the work.
    """


class TakenOverError(WorkLostError):
    """Another worker continues the work."""


class RunEndedError(WorkLostError):
    """The run has ended, or begun again, while this part of it was in flight."""


@dataclass(frozen=True)
class Fence:
    """Lets a piece of work continue only while it may: call it before each change outside.

    Attributes:
        state: the state database.
        worker_id: the process that does the work.
        registration: its registration when the work began. None: the process is not registered.
        run_id: the run that the work belongs to.
        attempt: the attempt of the run that the work belongs to. None: any.

    """

    state: Database
    worker_id: str
    registration: str | None
    run_id: str
    attempt: int | None = None

    def __call__(self) -> None:
        """Return if the work may continue.

        Raises:
            RunEndedError: the run, or this attempt of it, has ended.
            TakenOverError: the registration has ended.

        """
        is_active = sa.select(t.run.c.id).where(
            t.run.c.id == self.run_id, t.run.c.state.in_(ACTIVE_STATES)
        )
        if self.attempt is not None:
            is_active = is_active.where(t.run.c.attempt == self.attempt)
        is_registered: sa.ColumnElement[bool] = sa.true()
        if self.registration is not None:
            own = t.worker.c.registration == self.registration
            is_registered = (
                sa.select(t.worker.c.id)
                .where(t.worker.c.id == self.worker_id, own, t.worker.c.claimed_at.is_(None))
                .exists()
            )
        with self.state.read() as connection:
            statement = sa.select(is_active.exists(), is_registered)
            active, registered = connection.execute(statement).one()
        if not active:
            raise RunEndedError(f"run {self.run_id[:8]}, or this attempt of it, has ended")
        if not registered:
            raise TakenOverError(f"another worker has taken over run {self.run_id[:8]}")


class Workers:
    """The workers in a state database.

    Args:
        state: the state database.
        clock: the process's clock.
        timeout_seconds: a worker without a heartbeat for this long is dead.

    """

    def __init__(
        self, state: Database, clock: Callable[[], datetime], timeout_seconds: float
    ) -> None:
        self._state = state
        self._clock = clock
        self._timeout = timedelta(seconds=timeout_seconds)

    def register(self, worker_id: str, *, schedules: bool) -> str:
        """Record that a worker is alive, under a new registration.

        A claim on the worker ends with that: the claimant then no longer deletes its row.

        Args:
            worker_id: the id of the process.
            schedules: whether it starts jobs at their scheduled times.

        Returns:
            The id of the registration.

        """
        registration = str(uuid4())
        values = {
            "registration": registration,
            "heartbeat_at": self._time(),
            "claimed_at": None,
            "claimed_by": None,
        }
        with self._state.write() as connection:
            known = connection.execute(
                sa.update(t.worker).where(t.worker.c.id == worker_id).values(values)
            )
            if not known.rowcount:
                connection.execute(
                    sa.insert(t.worker).values(
                        id=worker_id, started_at=self._clock(), schedules=schedules, **values
                    )
                )
        return registration

    def start_schedules(self, worker_id: str) -> None:
        """Record that a registered worker starts jobs at their scheduled times from now on."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.worker).where(t.worker.c.id == worker_id).values(schedules=True)
            )

    def beat(self, worker_id: str, registration: str) -> bool:
        """Record a heartbeat; False if the registration has ended: the worker was taken over."""
        with self._state.write() as connection:
            result = connection.execute(
                sa.update(t.worker)
                .where(
                    t.worker.c.id == worker_id,
                    t.worker.c.registration == registration,
                    t.worker.c.claimed_at.is_(None),
                )
                .values(heartbeat_at=self._time())
            )
        return bool(result.rowcount)

    def remove(self, worker_id: str, *, claimed_by: str | None = None) -> None:
        """Delete the row of a worker; with `claimed_by`, only while that worker's claim holds."""
        statement = sa.delete(t.worker).where(t.worker.c.id == worker_id)
        if claimed_by is not None:
            statement = statement.where(t.worker.c.claimed_by == claimed_by)
        with self._state.write() as connection:
            connection.execute(statement)

    def alive(self, *, all_processes: bool = False) -> list[str]:
        """The ids of the workers with schedules whose heartbeat is fresh.

        Args:
            all_processes: also of the processes without schedules, such as commands that work.

        """
        statement = sa.select(t.worker.c.id).where(t.worker.c.heartbeat_at >= self._stale())
        if not all_processes:
            statement = statement.where(t.worker.c.schedules)
        with self._state.read() as connection:
            return list(connection.scalars(statement))

    def claim_dead(self, claimant: str, *, all_others: bool = False) -> list[str]:
        """Claim the dead workers; of several claimants, one gets each.

        Args:
            claimant: the worker that takes over their work.
            all_others: every other worker is dead, because we hold the lock of an embedded home.

        Returns:
            The ids of the claimed workers.

        """
        is_dead = t.worker.c.id != claimant
        if not all_others:
            stale = self._stale()
            is_dead = sa.and_(
                is_dead,
                t.worker.c.heartbeat_at < stale,
                # A claim expires like a heartbeat, because the claimant may have died.
                sa.or_(t.worker.c.claimed_at.is_(None), t.worker.c.claimed_at < stale),
            )
        with self._state.read() as connection:
            dead = list(connection.scalars(sa.select(t.worker.c.id).where(is_dead)))
        claimed = []
        for worker_id in dead:
            with self._state.write() as connection:
                won = connection.execute(
                    sa.update(t.worker)
                    .where(t.worker.c.id == worker_id, is_dead)
                    .values(claimed_at=self._time(), claimed_by=claimant)
                )
            if won.rowcount:
                claimed.append(worker_id)
        return claimed

    def holds_claim(self, claimant: str, worker_id: str) -> bool:
        """Whether a worker's claim on another one still holds: that one has not come back."""
        claim = sa.select(t.worker.c.id).where(
            t.worker.c.id == worker_id, t.worker.c.claimed_by == claimant
        )
        with self._state.read() as connection:
            return connection.scalar(claim) is not None

    def _stale(self) -> sa.ColumnElement[datetime]:
        """Heartbeats before this time are stale."""
        return self._time(ago=self._timeout)

    def _time(self, ago: timedelta = timedelta(0)) -> sa.ColumnElement[datetime]:
        """The current time, or a time before it, of the clock that liveness is measured by."""
        return current_time(self._state.dialect, ago, self._clock)
