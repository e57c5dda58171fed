"""What a process works with: settings, clock, and servers, which are connected on first use."""

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from os import getpid
from typing import Generic, TypeVar
from uuid import uuid4

from tis_sync.alarms.channels import channels_of
from tis_sync.alarms.delivery import deliver_due, delivering
from tis_sync.alarms.store import Alarms
from tis_sync.db.database import Database, connect
from tis_sync.durable.engine import Engine
from tis_sync.durable.model import Workflow
from tis_sync.durable.tables import enqueue_remotely
from tis_sync.errors import UsageError
from tis_sync.private_files import protect_home
from tis_sync.reconcile.losses import Losses
from tis_sync.reconcile.workspace import Workspaces
from tis_sync.runs.history import History
from tis_sync.search.connect import connect as connect_search
from tis_sync.search.model import SearchEngine
from tis_sync.settings.model import Settings
from tis_sync.state.clock import time_of
from tis_sync.state.database import open_state
from tis_sync.state.liveness import Fence, Workers

T = TypeVar("T")

REQUESTS_KEPT = 1_000  # more than a command makes; a console that does not work never needs them
TCS_DIALECTS = {"sqlite", "mysql", "mariadb"}


def utc_now() -> datetime:
    """The current time in UTC; no other function reads the machine's clock."""
    return datetime.now(UTC)


def clock_of(settings: Settings) -> Callable[[], datetime]:
    """The machine's clock, shifted by the setting `clock_offset_seconds` (for rehearsals)."""
    offset = timedelta(seconds=settings.clock_offset_seconds)
    return lambda: utc_now() + offset


class OnFirstUse(Generic[T]):
    """A value that is made on first use.

    Each value has a lock of its own: a server that does not answer delays only those who need it.

    Args:
        make: makes the value; called by one thread at a time, and again if it fails.

    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value: T | None = None
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value; wait while another thread makes it.

        Raises:
            Exception: whatever `make` raises.

        """
        with self._lock:
            value = self._value
            if value is None:
                value = self._value = self._make()
            return value

    def forget(self) -> T | None:
        """Return the value that was made, if any; the next use makes another one.

        This does not wait for a thread that is making it.
        """
        value, self._value = self._value, None
        return value


class Services:
    """The settings, the clock and the servers of one process.

    Args:
        settings: the configuration.
        clock: returns the current time in UTC. None: the machine's clock (see `clock_of`).

    Raises:
        UsageError: other users can write to the home folder.

    Attributes:
        settings: the configuration.
        clock: returns the current time in UTC.
        worker_id: identifies this process among all that have ever carried out runs.
        registration: identifies the time since this process was last registered as a worker. None:
            it is not registered.
        returned_at: when it noticed that it had been taken over (Unix time), until the work that it
            had begun before is back on the queues.
        started_at: when this process started.
        engine: carries out workflows in this process. None: this process does not work, and leaves
            what it requests to workers.
        awaited: ids (or prefixes of ids) of the runs and workflows that a command waits for.
        requests: what this process has left to workers: workflow, argument, id, partition key.
        partition_slots: limits how many partitions this process handles at the same time.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        protect_home(settings.home)
        self.settings = settings
        self.clock = clock or clock_of(settings)
        self.worker_id = f"{socket.gethostname()}-{getpid()}-{uuid4().hex[:8]}"
        self.registration: str | None = None
        self.returned_at: float | None = None
        self.started_at = self.clock()
        self.engine: Engine | None = None
        self.awaited: set[str] = set()
        self.requests: deque[tuple[Workflow, str, str, str | None]] = deque(maxlen=REQUESTS_KEPT)
        self.partition_slots = threading.Semaphore(settings.partitions_at_once)
        self._has_notifications = threading.Event()
        self._state = OnFirstUse(self._open_state)
        self._history = OnFirstUse(lambda: History(self.state))
        self._alarms = OnFirstUse(lambda: Alarms(self.state, self._has_notifications.set))
        self._workspaces = OnFirstUse(lambda: Workspaces(settings.home / "spool"))
        self._tcs = OnFirstUse(self._connect_tcs)
        self._search = OnFirstUse(lambda: connect_search(settings))

    @property
    def state(self) -> Database:
        """The state database, with its tables at the newest version.

        Raises:
            UsageError, UnreachableError, SchemaError: see `open_state`.

        """
        return self._state.get()

    @property
    def history(self) -> History:
        """The history of runs."""
        return self._history.get()

    @property
    def alarms(self) -> Alarms:
        """The alarms."""
        return self._alarms.get()

    @property
    def workers(self) -> Workers:
        """The workers of this installation."""
        return Workers(self.state, self.clock, self.settings.worker_timeout_seconds)

    def fence(self, run_id: str, attempt: int | None = None) -> Fence:
        """The fence of a piece of work that this process begins now for an attempt of a run."""
        return Fence(self.state, self.worker_id, self.registration, run_id, attempt)

    @property
    def losses(self) -> Losses:
        """The losses by which the plans of runs were judged."""
        return Losses(self.state)

    @property
    def workspaces(self) -> Workspaces:
        """What this process keeps in memory for its runs."""
        return self._workspaces.get()

    def tcs(self) -> Database:
        """TCS.

        Raises:
            UsageError: the URL names an unsupported kind of database.
            UnreachableError: it does not answer.

        """
        return self._tcs.get()

    def search(self) -> SearchEngine:
        """The search engine; it has not been contacted yet.

        Raises:
            UsageError: the URL is malformed.

        """
        return self._search.get()

    def notify(self, title: str, text: str) -> None:
        """Send people a message that is not an alarm."""
        self.alarms.inform(title, text)

    def delivering(self, *, is_worker: bool = False) -> AbstractContextManager[None]:
        """Deliver notifications to the channels of the settings while the block lasts.

        Args:
            is_worker: whether this process is a worker, or a command that works for a while.

        """
        channels = channels_of(self.settings.notification_urls)
        state, wake = self.state, self._has_notifications
        return delivering(state, channels, lambda: time_of(state), wake, is_worker=is_worker)

    def deliver(self) -> None:
        """Deliver what is due; for a process that does not work."""
        if channels := channels_of(self.settings.notification_urls):
            state = self.state
            while deliver_due(state, channels, lambda: time_of(state)):
                pass

    def enqueue(
        self, workflow: Workflow, argument: str, *, workflow_id: str, partition: str | None = None
    ) -> None:
        """Have a workflow carried out, by this process if it works, otherwise by a worker.

        Nothing happens if a workflow with this id was requested before.

        Args:
            workflow: the workflow.
            argument: its argument, without the services.
            workflow_id: its id.
            partition: the partition key, if its queue has partitions.

        """
        if self.engine is None:
            self.requests.append((workflow, argument, workflow_id, partition))
            enqueue_remotely(self.settings, workflow, argument, workflow_id, partition)
        else:
            self.engine.wake()
            self.engine.enqueue(workflow, argument, workflow_id=workflow_id, partition=partition)

    def work_with(self, engine: Engine) -> None:
        """Work in this process from now on, also on what it has left to workers so far.

        Requests that no worker knows, because none has ever run, start here.
        """
        self.engine = engine
        for workflow, argument, workflow_id, partition in tuple(self.requests):
            engine.enqueue(workflow, argument, workflow_id=workflow_id, partition=partition)
        self.requests.clear()

    def close(self) -> None:
        """Close the databases that were opened."""
        for database in (self._state.forget(), self._tcs.forget()):
            if database is not None:
                database.close()
        self._history.forget()
        self._alarms.forget()

    def _open_state(self) -> Database:
        return open_state(self.settings)

    def _connect_tcs(self) -> Database:
        found = connect(
            self.settings.tcs(),
            name="TCS",
            setting="TIS_SYNC_TCS_URL",
            timeout_seconds=self.settings.tcs_timeout_seconds,
        )
        if found.dialect not in TCS_DIALECTS:
            raise UsageError(
                f"TIS_SYNC_TCS_URL names {found.address}; TCS must be MySQL, MariaDB or SQLite."
            )
        return found
