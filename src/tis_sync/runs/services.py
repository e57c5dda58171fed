"""What a process needs to carry runs out: settings, the three databases, the clock."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from os import getpid
from uuid import uuid4

import sqlalchemy as sa

from tis_sync.alerts.alarms import Alarms
from tis_sync.alerts.send import send
from tis_sync.errors import UsageError
from tis_sync.runs.history import History
from tis_sync.runs.workspace import Workspaces
from tis_sync.search.connect import connect as connect_search
from tis_sync.search.model import SearchEngine
from tis_sync.settings import Settings
from tis_sync.state.database import open_state
from tis_sync.tcs.connect import connect, shown

TCS_DIALECTS = {"sqlite", "mysql", "mariadb"}


def utc_now() -> datetime:
    """The present moment; the only place that asks the machine for it."""
    return datetime.now(UTC)


def clock_of(settings: Settings) -> Callable[[], datetime]:
    """The clock that the settings want: the machine's, or, for a rehearsal, one ahead of it."""
    offset = timedelta(seconds=settings.clock_offset_seconds)
    return lambda: utc_now() + offset


@dataclass
class Services:
    """The servers of one process, connected when first used.

    Attributes:
        settings: the configuration.
        given_clock: tells the present moment, in UTC; a parameter so that tests own the time.
            None: the clock that the settings want.
        worker_id: names this process among all that ever carried out runs.
        works: this process carries runs out (`tis_sync.runs.session`), and does not only look.
        partition_slots: one for each partition that this process may have in memory.

    """

    settings: Settings
    given_clock: Callable[[], datetime] | None = None
    worker_id: str = field(
        default_factory=lambda: f"{socket.gethostname()}-{getpid()}-{uuid4().hex[:8]}"
    )
    works: bool = False
    partition_slots: threading.Semaphore = field(init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.partition_slots = threading.Semaphore(self.settings.partitions_at_once)

    @cached_property
    def clock(self) -> Callable[[], datetime]:
        """Tells the present moment, in UTC."""
        return self.given_clock or clock_of(self.settings)

    @cached_property
    def state(self) -> sa.Engine:
        """The state database, its tables at the newest version."""
        with self._lock:
            return open_state(self.settings)

    @cached_property
    def history(self) -> History:
        """The runs."""
        return History(self.state)

    @cached_property
    def alarms(self) -> Alarms:
        """The alarms."""
        return Alarms(self.state, self.settings.alert_urls)

    @cached_property
    def workspaces(self) -> Workspaces:
        """What this process keeps for the runs under way."""
        return Workspaces(self.settings.home / "spool")

    def tcs(self) -> sa.Engine:
        """TCS.

        Raises:
            UsageError: the URL names a database that TCS never lives in.
            UnreachableError: it does not answer.

        """
        with self._lock:
            return self._tcs

    @cached_property
    def _tcs(self) -> sa.Engine:
        engine = connect(self.settings.tcs(), name="TCS", setting="TIS_SYNC_TCS_URL")
        if engine.dialect.name not in TCS_DIALECTS:
            raise UsageError(
                f"TIS_SYNC_TCS_URL names {shown(engine.url)}; TCS is MySQL, MariaDB or SQLite."
            )
        return engine

    def search(self) -> SearchEngine:
        """The search engine; not asked anything yet."""
        with self._lock:
            return self._search

    @cached_property
    def _search(self) -> SearchEngine:
        return connect_search(self.settings)

    def tell(self, title: str, text: str) -> None:
        """Tell people something that is no alarm."""
        send(self.settings.alert_urls, title, text, level="info")

    def close(self) -> None:
        """Close the connections that were opened."""
        for name in ("state", "_tcs"):
            engine = self.__dict__.pop(name, None)
            if engine is not None:
                engine.dispose()


_current: Services | None = None


def use(services: Services | None) -> None:
    """Make these the services of the process; DBOS calls workflows without arguments of ours."""
    global _current
    _current = services


def services() -> Services:
    """The services of the process."""
    assert _current is not None, "no session is open"
    return _current
