"""Processes that carry out runs: their session, their heartbeat, and the takeover of dead ones.

DBOS only resumes the work of a process when a process with the same id returns, or on request. So
every process that carries out runs keeps a row with a heartbeat. A worker that finds a stale
heartbeat claims the row (with an UPDATE that only one worker can win), and puts the unfinished
workflows of the dead process back on their queues.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from dbos import DBOS, DBOSClient

from tis_sync import logs
from tis_sync.alarms.monitoring import Task, beating, running_tasks
from tis_sync.durable.engine import Engine, launch, register, shut_down
from tis_sync.durable.model import Queue, Schedule, Workflow, owner_of_queue, shared_queue
from tis_sync.durable.tables import client
from tis_sync.execution.workflow import RUNS_QUEUE
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.workers import schedule
from tis_sync.workers.home import POLL_SECONDS, HomeInUseError, Purpose, home_lock

TAKEN_OVER = "the worker stopped; another worker continues this run"


@dataclass(frozen=True)
class Components:
    """What a working process consists of; `tis_sync.app` lists it.

    Attributes:
        workflows: everything that can be carried out.
        queues: the queues in which workflows wait.
        schedules: what starts automatically.
        monitors: carried out regularly by one scheduler; they open and close alarms.
        recoveries: called at the start and with every heartbeat; they queue what a dead process
            recorded but never queued, and free what ended runs have left in memory.
        is_idle: whether nothing is queued or running, so that the queues can be polled rarely.
        consumers: context managers that last as long as a scheduler's session (the message
            consumer).

    """

    workflows: tuple[Workflow, ...]
    queues: Callable[[Settings], tuple[Queue, ...]]
    schedules: Callable[[Settings], list[Schedule]]
    monitors: tuple[Task, ...]
    recoveries: tuple[Callable[[Services], None], ...]
    is_idle: Callable[[Services], bool]
    consumers: tuple[Callable[[Services], AbstractContextManager[None]], ...]


@contextmanager
def session(
    components: Components,
    settings: Settings,
    *,
    scheduler: bool = False,
    clock: Callable[[], datetime] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Services]:
    """Carry out runs in this process while the block lasts.

    The work of dead processes is taken over first. Only one process at a time can work in an
    embedded home.

    Args:
        components: what the process consists of.
        settings: the configuration.
        scheduler: also start jobs at their scheduled times, monitor, and consume messages.
        clock: returns the current time. None: the machine's clock.
        stop: set when the process is to stop; it may still be waiting for the home then.

    Raises:
        HomeInUseError: another worker works in the embedded home.
        UnreachableError: the state database does not answer.
        SystemExit: `stop` was set while this process waited for the home.

    """
    with ExitStack() as stack:
        stack.enter_context(_home(settings, stop or threading.Event()))
        services = Services(settings, clock)
        stack.callback(services.close)
        history = services.history
        logs.to_history(lambda run, level, text: history.log(run, services.clock(), level, text))
        stack.callback(logs.to_history, None)
        wait_seconds = settings.shutdown_wait_seconds * scheduler
        engine = stack.enter_context(
            engine_running(components, services, wait_seconds, schedules=scheduler)
        )
        take_over_stale(services, all_others=settings.embedded_state)
        for recover in components.recoveries:
            recover(services)
        stack.enter_context(services.delivering(is_worker=scheduler))
        if scheduler:
            engine.apply_schedules(components.schedules(settings))
            schedule.start_night_if_due(services)
            for consumer in components.consumers:
                stack.enter_context(consumer(services))
        # Last, so that monitors find everything started.
        hooks = _hooks(services, components, scheduler=scheduler)
        monitors = components.monitors if scheduler else ()
        stack.enter_context(running_tasks(services, [*hooks, *monitors]))
        yield services


@contextmanager
def engine_running(
    components: Components,
    services: Services,
    wait_seconds: int,
    *,
    schedules: bool,
    alone: bool = False,
) -> Iterator[Engine]:
    """Run DBOS in this process, and refresh its heartbeat, while the block lasts.

    The process is registered, and refreshes its heartbeat, before DBOS takes the first workflow and
    until DBOS has stopped: others take over its work when it dies, and not before.

    Args:
        components: what the process consists of.
        services: settings, clock and servers.
        wait_seconds: see `shut_down`.
        schedules: whether the process starts jobs at their scheduled times.
        alone: see `register`.

    """
    register_worker(services, schedules=False)
    deregister: Callable[[], None] = partial(services.workers.remove, services.worker_id)
    beat = partial(refresh_heartbeat, services, schedules=schedules)
    try:
        with beating(services.settings.heartbeat_seconds, beat):
            engine = register(
                services.settings,
                services,
                services.worker_id,
                components.workflows,
                components.queues(services.settings),
                alone=alone,
            )
            if not alone:  # before work begins: a workflow requests others through the engine
                services.engine = engine
            deregister = partial(deregister_worker, services)
            try:
                launch(engine)
                if schedules:  # only now: a worker with schedules does what others leave to it
                    services.workers.start_schedules(services.worker_id)
                yield engine
            finally:
                shut_down(engine, wait_seconds)
    finally:
        deregister()


@contextmanager
def _home(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of the home, if something is embedded in it; wait for a command that has it.

    Raises:
        HomeInUseError: another worker has it.
        SystemExit: `stop` was set while this process waited.

    """
    if not uses_home(settings):
        yield
        return
    waits_for = None
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(home_lock(settings.home, Purpose.WORKER))
                break
            except HomeInUseError as error:
                if error.owner.purpose != Purpose.COMMAND:
                    raise
                if error.owner.process != waits_for:
                    waits_for = error.owner.process
                    logs.get().info("waiting for a command to end", process=waits_for)
                if stop.wait(POLL_SECONDS):
                    raise SystemExit(0) from None  # nothing has begun
        yield


def uses_home(settings: Settings) -> bool:
    """Whether the state database or the search engine is embedded, for one process at a time."""
    return settings.embedded_state or settings.search().startswith("embedded:")


def _hooks(services: Services, components: Components, *, scheduler: bool) -> list[Task]:
    """What every working process does besides its monitors."""

    def poll(s: Services) -> None:
        if s.engine is not None:
            s.engine.poll(busy=not (scheduler and components.is_idle(s)))

    acts: dict[str, Callable[[Services], object]] = {
        recover.__name__.replace("_", " "): recover for recover in components.recoveries
    }
    if not services.settings.embedded_state:
        acts["take over"] = take_over_stale
    acts["poll queues"] = poll
    seconds = services.settings.heartbeat_seconds
    return [Task(name, act, seconds, is_exclusive=False) for name, act in acts.items()]


def register_worker(services: Services, *, schedules: bool) -> None:
    """Record that this process is alive, under a new registration."""
    services.registration = services.workers.register(services.worker_id, schedules=schedules)


def refresh_heartbeat(services: Services, *, schedules: bool) -> None:
    """Record that this process is alive; if it was taken over, stop its work and register again.

    The fences of all work that began before then stop it. DBOS refuses its records too, because the
    workflows are put back on their queues (by this process as well: the one that claimed it may
    have died).
    """
    assert services.registration is not None
    if not services.workers.beat(services.worker_id, services.registration):
        register_worker(services, schedules=schedules)
        services.returned_at = time.time()  # what began until now may have the old registration
    if services.returned_at is None:
        return
    requeued = _requeue(services.worker_id, DBOS, begun_before=services.returned_at)
    services.returned_at = None  # only now: if that failed, the next heartbeat tries again
    logs.get().warning("taken over while alive", worker=services.worker_id, workflows=len(requeued))


def deregister_worker(services: Services) -> None:
    """Put the unfinished work of this process back on its queues, and delete its row.

    DBOS must have stopped in this process.
    """
    with client(services.settings) as dbos:
        _log_takeover(services, _requeue(services.worker_id, dbos))
    services.workers.remove(services.worker_id)


def live_workers(services: Services) -> list[str]:
    """The ids of the workers with schedules whose heartbeat is fresh."""
    return services.workers.alive()


def take_over_stale(services: Services, *, all_others: bool = False) -> int:
    """Take over the work of workers with a stale heartbeat.

    Args:
        services: settings, clock and servers.
        all_others: treat every other worker as dead, because we hold the lock of an embedded home.

    Returns:
        The number of workers taken over.

    """
    dead = services.workers.claim_dead(services.worker_id, all_others=all_others)
    for worker_id in dead:
        if not services.workers.holds_claim(services.worker_id, worker_id):
            continue  # it has come back, and puts its work back itself
        ids = _requeue(worker_id, DBOS)
        logs.get().warning("took over", worker=worker_id, workflows=len(ids))
        _log_takeover(services, ids)
        services.workers.remove(worker_id, claimed_by=services.worker_id)
    return len(dead)


def drop_workspaces(services: Services) -> None:
    """Free what this process keeps for runs that have ended, here or on another worker."""
    kept = services.workspaces.run_ids
    if kept:
        for run_id in set(kept) - services.history.active_among(kept):
            services.workspaces.drop(run_id)


def _log_takeover(services: Services, workflow_ids: Collection[str]) -> None:
    """Note in the logs of the runs among these workflows that another worker continues them."""
    for run in services.history.all_active():
        if run.workflow_id in workflow_ids:
            services.history.log(run.id, services.clock(), "warning", TAKEN_OVER)


def _requeue(
    worker_id: str, dbos: type[DBOS] | DBOSClient, begun_before: float = math.inf
) -> list[str]:
    """Put the unfinished workflows of a process back on their queues.

    Those that waited in the own queues of a command go back too, and these queues are deleted.

    Args:
        worker_id: the process.
        dbos: DBOS.
        begun_before: leave alone what began later than this, by the machine's clock, which DBOS
            uses (Unix time, in seconds): it runs under a new registration of the process.

    Returns:
        The ids of the workflows that the process had begun.

    """
    unfinished = dbos.list_workflows(
        executor_id=worker_id, status="PENDING", load_input=False, load_output=False
    )
    pending = [w for w in unfinished if (w.dequeued_at or w.created_at or 0) <= begun_before * 1000]
    waiting = dbos.list_workflows(
        status="ENQUEUED", queues_only=True, load_input=False, load_output=False
    )
    own = [w for w in waiting if owner_of_queue(w.queue_name) == worker_id]
    by_queue: dict[str, list[str]] = {}
    for workflow in [*pending, *own]:
        queue = shared_queue(workflow.queue_name or RUNS_QUEUE)
        by_queue.setdefault(queue, []).append(workflow.workflow_id)
    for queue, ids in by_queue.items():
        dbos.resume_workflows(ids, queue_name=queue)
    for registered in dbos.list_queues():
        if owner_of_queue(registered.name) == worker_id:
            dbos.delete_queue(registered.name)
    return [workflow.workflow_id for workflow in pending]
