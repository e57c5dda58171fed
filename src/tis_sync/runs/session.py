"""A process that carries out runs: the lock of an embedded home, DBOS, the heartbeat."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from errno import EDQUOT, EFBIG, ENOSPC
from os import getpid
from pathlib import Path

from dbos import DBOS
from filelock import FileLock, Timeout

from tis_sync import logs
from tis_sync.errors import StorageFullError, TisSyncError, UsageError
from tis_sync.runs import schedule, watch, workers
from tis_sync.runs import services as current
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.services import Services
from tis_sync.runs.workflows import PARTS_QUEUE, RUNS_QUEUE, WORKFLOW_VERSION
from tis_sync.settings import Settings

DISK_FULL = {EDQUOT, EFBIG, ENOSPC}
QUEUE_POLL_SECONDS = 0.1
MANY_RUNS = 64  # runs mostly wait; what is heavy goes through the queue of partitions


@contextmanager
def session(
    settings: Settings,
    *,
    scheduler: bool = False,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Services]:
    """Carry out runs in this process while the block lasts.

    Work that a dead process left is taken over first. In an embedded home there is one such
    process at a time.

    Args:
        settings: the configuration.
        scheduler: also start jobs at their times, and watch for what does not happen.
        clock: the present moment. None: the clock that the settings want.

    Raises:
        UsageError: another process uses the embedded home.
        UnreachableError: the state database does not answer.

    """
    with ExitStack() as stack:
        if settings.embedded_state or settings.search().startswith("embedded:"):
            stack.enter_context(home_lock(settings.home))
        services = Services(settings, clock)
        stack.callback(services.close)
        history = services.history
        current.use(services)
        stack.callback(current.use, None)
        logs.to_history(lambda run, level, text: history.log(run, services.clock(), level, text))
        stack.callback(logs.to_history, None)
        # Retired only after DBOS has stopped: what is unfinished then is for others.
        ends = stack.enter_context(ExitStack())
        ends.callback(
            DBOS.destroy, workflow_completion_timeout_sec=settings.stop_seconds * scheduler
        )
        _launch(services)
        services.works = True
        workers.enlist(services, schedules=scheduler)
        stack.callback(workers.retire, services)
        stack.push(ends.pop_all())
        workers.bury_dead(services, all_others=settings.embedded_state)
        workers.adopt_orphans(services)
        for hook in REGISTRY.heartbeats:
            hook(services)
        stack.enter_context(_heart(services, scheduler=scheduler))
        if scheduler:
            schedule.register(settings)
            schedule.night_at_start(services)
            for companion in REGISTRY.companions:
                stack.enter_context(companion(services))
        yield services


@contextmanager
def home_lock(home: Path) -> Iterator[None]:
    """Hold the lock of an embedded home.

    Raises:
        UsageError: another process holds it; the message names that process.
        StorageFullError: the disk under the home is full.

    """
    owner = home / "lock.owner"
    held = FileLock(home / "lock", timeout=0)
    try:
        home.mkdir(parents=True, exist_ok=True)
        held.acquire()
        owner.write_text(str(getpid()))
    except Timeout:
        who = owner.read_text() if owner.exists() else "?"
        raise UsageError(
            f"{home} is in use by another tis-sync process (id {who}); wait until it has ended, "
            "or set TIS_SYNC_HOME to another folder. Several processes at once need "
            "TIS_SYNC_STATE_URL on PostgreSQL."
        ) from None
    except OSError as error:
        held.release()
        if error.errno in DISK_FULL:
            raise StorageFullError(f"The disk under {home} is full; make room there.") from None
        raise TisSyncError(f"{home} cannot be used: {error.strerror}.") from None
    try:
        yield
    finally:
        held.release()


def _launch(services: Services) -> None:
    settings = services.settings
    DBOS(
        config={
            "name": "tis-sync",
            "system_database_url": settings.dbos(),
            "application_version": WORKFLOW_VERSION,
            "executor_id": services.worker_id,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
    )
    DBOS.launch()
    DBOS.register_queue(
        RUNS_QUEUE, worker_concurrency=MANY_RUNS, polling_interval_sec=QUEUE_POLL_SECONDS
    )
    DBOS.register_queue(
        PARTS_QUEUE,
        worker_concurrency=settings.partitions_at_once,
        polling_interval_sec=QUEUE_POLL_SECONDS,
    )
    for name, options in REGISTRY.queues.items():
        DBOS.register_queue(name, polling_interval_sec=QUEUE_POLL_SECONDS, **options)


@contextmanager
def _heart(services: Services, *, scheduler: bool) -> Iterator[None]:
    """Threads that tell that this process lives, take over from the dead, and watch."""
    stop = threading.Event()

    def every(seconds: float, act: Callable[[], None]) -> threading.Thread:
        def loop() -> None:
            while not stop.wait(seconds):
                try:
                    act()
                except Exception as error:  # noqa: BLE001  the heart beats on
                    logs.get().warning("heartbeat trouble", reason=str(error)[:300])

        thread = threading.Thread(target=loop, name="heart", daemon=True)
        thread.start()
        return thread

    def beat() -> None:
        workers.beat(services, schedules=scheduler)
        if not services.settings.embedded_state:
            workers.bury_dead(services)
        workers.adopt_orphans(services)
        for hook in REGISTRY.heartbeats:
            hook(services)

    def look() -> None:
        watch.watch(services, paused())
        for hook in REGISTRY.watches:
            hook(services)

    threads = [every(services.settings.heartbeat_seconds, beat)]
    if scheduler:
        threads.append(every(watch.WATCH_SECONDS, look))
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


def paused() -> frozenset[str]:
    """The names of jobs whose schedule is paused."""
    return frozenset(
        str(found["schedule_name"]).removeprefix(schedule.PREFIX)
        for found in DBOS.list_schedules(status="PAUSED", schedule_name_prefix=schedule.PREFIX)
    )
