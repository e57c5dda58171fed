"""Heartbeat and regular tasks of a working process, isolated from each other.

The heartbeat has a thread of its own that does nothing else. Every other task runs in a thread that
lasts as long as the task, so a task that fails or hangs affects no other task. A monitor is carried
out by one worker at a time, the one that holds its lease in the state database.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from tis_sync import logs
from tis_sync.alarms.catalogue import MONITOR_FAILED, Resolution
from tis_sync.alarms.store import Alarms, Closing
from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError
from tis_sync.settings.model import Settings
from tis_sync.state import tables as t
from tis_sync.state.clock import time_in

MONITOR_SECONDS = 30.0  # an alarm opens within a minute
LIMIT_SECONDS = 60.0  # a task that takes longer is reported
SUSPENDED_SECONDS = 5.0  # a tick this late shows that the whole process did not run
JOIN_SECONDS = 10.0  # how long to wait for threads to stop
LONGEST_REASON = 300  # characters of an unexpected error that are shown
OF = " of "  # between a task and its worker, in the subject of an alarm
WORKER_GONE = Closing(Resolution.EXPIRED, "The worker has stopped; other workers do its tasks.")


class Process(Protocol):
    """What is needed of the process that carries out tasks; `runs.services.Services` has it."""

    settings: Settings
    clock: Callable[[], datetime]
    worker_id: str

    @property
    def state(self) -> Database:
        """The state database."""

    @property
    def alarms(self) -> Alarms:
        """The alarms."""


@dataclass(frozen=True)
class Task:
    """Something that a working process does regularly.

    Attributes:
        name: stable and unique; the subject of its alarm.
        act: called with the process (its services).
        every_seconds: the interval between two starts.
        limit_seconds: a task that takes longer is reported. It is not started again until it ends.
        is_exclusive: whether one worker at a time carries it out (a monitor), or every process.

    """

    name: str
    act: Callable[[Any], object]
    every_seconds: float = MONITOR_SECONDS
    limit_seconds: float = LIMIT_SECONDS
    is_exclusive: bool = True


@contextmanager
def beating(seconds: float, beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` regularly, in a thread of its own, while the block lasts.

    Args:
        seconds: the interval.
        beat: refreshes the heartbeat; if it fails, the next one may succeed.

    """
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            _attempt("heartbeat failed", beat)

    thread = threading.Thread(target=loop, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)


@contextmanager
def running_tasks(
    process: Process,
    tasks: Sequence[Task],
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Carry out tasks regularly while the block lasts.

    Args:
        process: what carries them out.
        tasks: what to do.
        monotonic: a clock that never goes backwards, in seconds.

    """
    runner = TaskRunner(process, tasks, monotonic)
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(process.settings.heartbeat_seconds):
            _attempt("tasks not started", runner.tick)

    thread = threading.Thread(target=loop, name="tasks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)
        runner.wait(JOIN_SECONDS)
        _attempt("leases not released", lambda: release_leases(process))


@dataclass
class _Progress:
    """A task, and what this process knows about it; times are those of the monotonic clock."""

    task: Task
    due: float
    thread: threading.Thread | None = None
    started: float = 0.0
    started_at: datetime | None = None
    is_reported: bool = False
    may_be_open: bool = False  # the alarm about this task, as far as this process opened it

    @property
    def is_running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class TaskRunner:
    """Starts the tasks that are due, and reports those that fail or take too long.

    Args:
        process: what carries them out.
        tasks: what to do. A task is first due after its interval, at most `MONITOR_SECONDS`, so
            that a worker that has just started is complete.
        monotonic: a clock that never goes backwards, in seconds.

    """

    def __init__(
        self, process: Process, tasks: Sequence[Task], monotonic: Callable[[], float]
    ) -> None:
        self._process = process
        self._monotonic = monotonic
        now = monotonic()
        self._progress = [
            _Progress(task, now + min(task.every_seconds, MONITOR_SECONDS)) for task in tasks
        ]
        self._exclusive = [task.name for task in tasks if task.is_exclusive]
        self._ticked = now

    def tick(self) -> None:
        """Renew the leases, start what is due, and report what takes too long."""
        self._leave_out_suspension()
        try:
            self._tick()
        finally:
            self._ticked = self._monotonic()

    def _leave_out_suspension(self) -> None:
        """Do not count the time in which the whole process was suspended as time a task took."""
        missed = self._monotonic() - self._ticked - self._process.settings.heartbeat_seconds
        if missed > SUSPENDED_SECONDS:
            for progress in self._progress:
                progress.started += missed

    def _tick(self) -> None:
        for progress in self._progress:
            if progress.is_running:
                self._report_slow(progress)
        owned = renew_leases(self._process, self._exclusive)
        for progress in self._progress:
            task = progress.task
            is_ours = not task.is_exclusive or task.name in owned
            if is_ours and not progress.is_running and progress.due <= self._monotonic():
                self._start(progress)

    def wait(self, seconds: float) -> None:
        """Wait for running tasks to end.

        Args:
            seconds: how long, for all of them together.

        """
        deadline = self._monotonic() + seconds
        for progress in self._progress:
            if progress.thread is not None:
                progress.thread.join(max(0.0, deadline - self._monotonic()))

    def _start(self, progress: _Progress) -> None:
        progress.started = self._monotonic()
        progress.started_at = self._process.clock()
        progress.due = progress.started + progress.task.every_seconds
        progress.is_reported = False
        name = progress.task.name
        progress.thread = threading.Thread(
            target=self._carry_out, args=(progress,), name=name, daemon=True
        )
        progress.thread.start()

    def _carry_out(self, progress: _Progress) -> None:
        task = progress.task
        try:
            task.act(self._process)
        except TisSyncError as error:
            logs.get().error(f"{task.name} failed", reason=str(error))
            self._open(progress, f"{task.name} failed: {error}")
        except Exception as error:  # noqa: BLE001  no task may affect another
            logs.report(f"{task.name} failed", error)
            reason = logs.reason_of(error)[:LONGEST_REASON]
            self._open(progress, f"{task.name} failed: {type(error).__name__}: {reason}.")
        else:
            # Another worker may have opened it: a monitor belongs to whoever holds its lease.
            if task.is_exclusive or progress.may_be_open:
                progress.may_be_open = False
                if not _attempt("alarm not closed", lambda: self._close(task)):
                    progress.may_be_open = True

    def _report_slow(self, progress: _Progress) -> None:
        """Report a task that has exceeded its limit, once."""
        limit = progress.task.limit_seconds
        if progress.is_reported or self._monotonic() - progress.started <= limit:
            return
        details = (
            f"{progress.task.name} has been running on {self._process.worker_id} since "
            f"{progress.started_at:%Y-%m-%d %H:%M:%S} UTC; it may take {limit:,.0f} s. It is not "
            "started again until it ends."
        )
        logs.get().error(f"{progress.task.name} takes too long", limit_seconds=limit)
        self._open(progress, details)

    def _open(self, progress: _Progress, details: str) -> None:
        progress.may_be_open = True
        subject, now = self._subject(progress.task), self._process.clock()
        # If the state database does not answer either, the next tick or the next run tries again.
        progress.is_reported = _attempt(
            "alarm not opened",
            lambda: self._process.alarms.open(MONITOR_FAILED, subject, details, now),
        )
        progress.may_be_open = True  # again: the task may have ended, and closed it, meanwhile

    def _close(self, task: Task) -> None:
        self._process.alarms.close(MONITOR_FAILED, self._subject(task), self._process.clock())

    def _subject(self, task: Task) -> str:
        return task.name if task.is_exclusive else f"{task.name}{OF}{self._process.worker_id}"


def renew_leases(process: Process, names: Collection[str]) -> set[str]:
    """Take or renew the leases that are free, expired or ours; return the names of ours.

    A lease lasts as long as a heartbeat: `worker_timeout_seconds`.
    """
    if not names:
        return set()
    lease = t.monitor_lease
    lifetime = timedelta(seconds=process.settings.worker_timeout_seconds)
    with process.state.write() as connection:
        now = time_in(connection)
        connection.execute(
            process.state.upsert(lease)
            .values([{"name": name} for name in sorted(names)])
            .on_conflict_do_nothing()
        )
        is_free = sa.or_(
            lease.c.owner.is_(None),
            lease.c.owner == process.worker_id,
            lease.c.expires_at < now,
        )
        claim = (
            sa.update(lease)
            .where(lease.c.name.in_(names), is_free)
            .values(owner=process.worker_id, expires_at=now + lifetime)
        )
        return set(connection.scalars(claim.returning(lease.c.name)))


def release_leases(process: Process) -> None:
    """Release the leases of this process, so that another worker takes them at once."""
    lease = t.monitor_lease
    ours = sa.update(lease).where(lease.c.owner == process.worker_id)
    with process.state.write() as connection:
        connection.execute(ours.values(owner=None, expires_at=None))


def close_of_gone_workers(process: Process) -> None:
    """Close the alarms about tasks of workers that have stopped."""
    alarms = process.alarms.open_alarms(MONITOR_FAILED)
    if not any(OF in alarm.subject for alarm in alarms):
        return
    with process.state.read() as connection:
        workers = set(connection.scalars(sa.select(t.worker.c.id)))
    for alarm in alarms:
        _, separator, worker = alarm.subject.partition(OF)
        if separator and worker not in workers:
            process.alarms.close(MONITOR_FAILED, alarm.subject, process.clock(), WORKER_GONE)


def _attempt(event: str, act: Callable[[], object]) -> bool:
    """Call a function; if it fails, log the error. Return whether it succeeded."""
    try:
        act()
    except TisSyncError as error:
        logs.get().error(event, reason=str(error))
    except Exception as error:  # noqa: BLE001  the next attempt may succeed
        logs.report(event, error)
    else:
        return True
    return False
