"""Durable execution: workflows and recorded steps, carried out by DBOS.

A workflow is a function whose steps are recorded. After a crash it is called again, on any worker,
and skips the steps that are done. So everything that reads or changes outside state is a step, and
steps can be repeated safely.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import (
    DBOS,
    DBOSClient,
    EnqueueOptions,
    SetEnqueueOptions,
    SetWorkflowID,
    WorkflowHandle,
    WorkflowStatus,
)
from dbos import error as dbos_error
from sqlalchemy.exc import DBAPIError

from tis_sync.db.driver_errors import as_transient_error
from tis_sync.errors import TisSyncError, is_panic
from tis_sync.logs import get, reason_of, report
from tis_sync.memory import limit_arenas
from tis_sync.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

# Unfinished workflows of another version are not resumed. Increase this when the names or the order
# of a workflow's steps change.
WORKFLOW_VERSION = "3"
BUSY_POLL_SECONDS = 0.1  # how often a queue is polled while there is work
# How often it is polled while there is none. Another process cannot wake an idle one, so a command
# that hands over its work waits this long.
IDLE_POLL_SECONDS = 1.0
# The same if several workers share the queues. DBOS only shortens its interval by a tenth per poll,
# so after a long interval it would take a while before work is shared quickly.
SHARED_IDLE_POLL_SECONDS = 0.5
PRUNED_AT_ONCE = 1_000  # workflows in one transaction
POSTGRESQL_SCHEMA = "dbos"  # where DBOS has its tables on PostgreSQL
# The states of workflows in DBOS.
UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]
FINISHED = ["SUCCESS", "ERROR"]
CANCELLED = ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
STEP_SECONDS = 10  # how long a process that stops waits for the steps that run
LONGEST_REASON = 300  # characters of an unexpected error that are shown


@dataclass(frozen=True)
class Queue:
    """A queue of workflows.

    Attributes:
        name: stable, because DBOS stores it.
        per_worker: how many workflows one process carries out at a time.
        per_partition: how many workflows with the same partition key run at a time, across all
            processes. None: the queue has no partitions.

    """

    name: str
    per_worker: int
    per_partition: int | None = None


@dataclass(frozen=True)
class Workflow:
    """A durable function.

    Attributes:
        name: stable, because DBOS stores it.
        function: called with the services of the process, then with the recorded arguments.
        queue: the name of the queue in which it waits.

    """

    name: str
    function: Callable[..., Any]
    queue: str


@dataclass(frozen=True)
class Schedule:
    """A workflow that starts at certain times; it is called with the time and the context.

    Attributes:
        name: stable and unique, because DBOS stores it.
        workflow: the workflow to start.
        cron: when it starts, in cron notation.
        context: what the workflow is called with besides the time.
        timezone: the time zone of `cron`. None: UTC.

    """

    name: str
    workflow: Workflow
    cron: str
    context: Any
    timezone: str | None = None


OWNER_MARK = "@"  # in the name of a queue: what follows is the id of the only process it is for


def shared_queue(name: str) -> str:
    """The name of the queue that all workers serve, given that of a process's own queue."""
    return name.partition(OWNER_MARK)[0]


def owner_of_queue(name: str | None) -> str | None:
    """The id of the only process that serves a queue; None: all workers serve it."""
    return (name or "").partition(OWNER_MARK)[2] or None


class Stopping(BaseException):
    """The process stops: a workflow ends here, unfinished, and another process resumes it."""


class Work:
    """The steps that run in this process, and whether it stops."""

    def __init__(self) -> None:
        self._stops = threading.Event()
        self._steps = 0
        self._changed = threading.Condition()

    def require(self) -> None:
        """Go on.

        Raises:
            Stopping: this process stops.

        """
        if self._stops.is_set():
            raise Stopping

    @property
    def stops(self) -> bool:
        """Whether this process stops."""
        return self._stops.is_set()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: this process stops.

        """
        self._stops.wait(seconds)
        self.require()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count a step while it runs.

        Raises:
            Stopping: this process stops, so no further step begins.

        """
        with self._changed:
            self.require()
            self._steps += 1
        try:
            yield
        finally:
            with self._changed:
                self._steps -= 1
                self._changed.notify_all()

    def stop(self, wait_seconds: float) -> None:
        """Let no further step begin, and wait up to this long for those that run."""
        with self._changed:
            self._stops.set()
            self._changed.wait_for(lambda: not self._steps, wait_seconds)


# The work that the current thread belongs to; none outside workflows.
_work: ContextVar[Work | None] = ContextVar("work", default=None)


def pause(seconds: float) -> None:
    """Wait within a step that waits for something.

    Raises:
        Stopping: this process stops; another one resumes the workflow.

    """
    work = _work.get()
    if work is None:
        time.sleep(seconds)
    else:
        work.pause(seconds)


@dataclass
class Engine:
    """DBOS in this process, with our workflows bound to the services of the process.

    Attributes:
        bound: the registered functions by workflow name.
        queues: the queues that this process serves.
        shared: whether other processes may serve them too (on PostgreSQL), so that work is shared.
        home_queues: the queue of each workflow, by its name.
        owner: the id of this process if the queues are its own. None: all workers serve them.
        work: the steps that run.

    """

    bound: Mapping[str, Callable[..., Any]]
    queues: tuple[Queue, ...]
    shared: bool
    home_queues: Mapping[str, str]
    owner: str | None = None
    work: Work = field(default_factory=Work)
    _is_busy: bool = field(default=True, init=False)

    def poll(self, *, busy: bool) -> None:
        """Poll the queues often while there is work, and rarely while there is none.

        The interval is a row that other processes also write, so it is read and compared each time.
        """
        idle_seconds = SHARED_IDLE_POLL_SECONDS if self.shared else IDLE_POLL_SECONDS
        seconds = BUSY_POLL_SECONDS if busy else idle_seconds
        self._is_busy = busy
        for queue in self.queues:
            found = DBOS.retrieve_queue(self.queue_name(queue.name))
            if found is not None and found.polling_interval_sec != seconds:
                found.set_polling_interval_sec(seconds)

    def queue_name(self, name: str) -> str:
        """The queue in which this process puts and finds the workflows of a shared queue."""
        return name if self.owner is None else f"{name}{OWNER_MARK}{self.owner}"

    def wake(self) -> None:
        """Poll the queues often, because something was requested."""
        if not self._is_busy:
            self.poll(busy=True)

    def enqueue(
        self,
        workflow: Workflow,
        *args: Any,
        workflow_id: str | None = None,
        partition: str | None = None,
    ) -> WorkflowHandle[Any]:
        """Have a workflow carried out; do nothing if one with this id already exists.

        It only waits in its queue if its partition key is carried out one at a time, or if a
        workflow requests it and other processes can take it. Otherwise it starts here, at once.

        Args:
            workflow: the workflow.
            args: its arguments, without the services.
            workflow_id: its id. None: a new one.
            partition: the partition key, if its queue has partitions.

        """
        bound = self.bound[workflow.name]
        with ExitStack() as stack:
            if workflow_id is not None:
                stack.enter_context(SetWorkflowID(workflow_id))
            if partition is not None:
                stack.enter_context(SetEnqueueOptions(queue_partition_key=partition))
            if partition is not None or (self.shared and DBOS.workflow_id is not None):
                return DBOS.enqueue_workflow(self.queue_name(workflow.queue), bound, *args)
            return DBOS.start_workflow(bound, *args)

    def results(
        self, workflow: Workflow, arguments: Iterable[tuple[Any, ...]], poll_seconds: float
    ) -> list[Any]:
        """Have a workflow carried out for each tuple of arguments; return the results in order.

        Call this from a workflow. They wait in their queue, so that the processes that serve it
        share them, and none starts more than the queue allows: each keeps a thread.

        Args:
            workflow: the workflow.
            arguments: its arguments, without the services.
            poll_seconds: how often to look for a result.

        """
        name, bound = self.queue_name(workflow.queue), self.bound[workflow.name]
        handles = [DBOS.enqueue_workflow(name, bound, *some) for some in arguments]
        return [handle.get_result(polling_interval_sec=poll_seconds) for handle in handles]

    def adopt(self, workflows: Iterable[WorkflowStatus]) -> None:
        """Carry out here unfinished workflows that no living process carries out."""
        by_queue: dict[str, list[str]] = {}
        for workflow in workflows:
            name = self.queue_name(shared_queue(workflow.queue_name or self._queue_of(workflow)))
            by_queue.setdefault(name, []).append(workflow.workflow_id)
        for name, ids in by_queue.items():
            DBOS.resume_workflows(ids, queue_name=name)

    def _queue_of(self, workflow: WorkflowStatus) -> str:
        return self.home_queues[workflow.name]

    def apply_schedules(self, schedules: Iterable[Schedule]) -> None:
        """Create or update schedules; one that is paused stays paused."""
        DBOS.apply_schedules(
            [
                {
                    "schedule_name": schedule.name,
                    "workflow_fn": self.bound[schedule.workflow.name],
                    "schedule": schedule.cron,
                    "context": schedule.context,
                    "cron_timezone": schedule.timezone,
                    "queue_name": schedule.workflow.queue,
                }
                for schedule in schedules
            ]
        )


def launch(
    settings: Settings,
    services: Any,
    worker_id: str,
    workflows: Iterable[Workflow],
    queues: tuple[Queue, ...],
    *,
    alone: bool = False,
) -> Engine:
    """Register the workflows, and start DBOS in this process. It only serves the given queues.

    Args:
        settings: the configuration; it names the database in which DBOS stores workflows.
        services: the first argument of every workflow and step.
        worker_id: the id of this process.
        workflows: the workflows that this process can carry out.
        queues: the queues that it serves.
        alone: serve queues of its own instead, so that it carries out nothing that others have
            requested, and others carry out nothing that it requests.

    """
    limit_arenas()
    all_workflows = tuple(workflows)
    DBOS(
        config={
            "name": "tis-sync",
            "system_database_url": settings.dbos(),
            "application_version": WORKFLOW_VERSION,
            "executor_id": worker_id,
            "log_level": "WARNING",
            "enable_otlp": False,
            "db_engine_kwargs": {"hide_parameters": True},  # its errors are logged
        }
    )
    work = Work()
    engine = Engine(
        {
            w.name: DBOS.workflow(name=w.name)(_bind(w.function, services, work))
            for w in all_workflows
        },
        queues,
        shared=not settings.embedded_state and not alone,
        home_queues={w.name: w.queue for w in all_workflows},
        owner=worker_id if alone else None,
        work=work,
    )
    DBOS.listen_queues([engine.queue_name(queue.name) for queue in queues])
    DBOS.launch()
    for queue in queues:
        DBOS.register_queue(
            engine.queue_name(queue.name),
            worker_concurrency=queue.per_worker,
            partition_concurrency=queue.per_partition,
            polling_interval_sec=BUSY_POLL_SECONDS,
        )
    return engine


def shut_down(engine: Engine, wait_seconds: int) -> None:
    """Stop DBOS in this process.

    Workflows that do not end in time stop after their current step. They stay unfinished, so that
    other processes resume them.

    Args:
        engine: what `launch` returned.
        wait_seconds: how long to wait for running workflows.

    """
    if not wait_seconds:
        engine.work.stop(STEP_SECONDS)
        DBOS.destroy(destroy_registry=True)
        return
    timer = threading.Timer(wait_seconds, engine.work.stop, (STEP_SECONDS,))
    timer.start()
    DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=wait_seconds + STEP_SECONDS)
    timer.cancel()
    engine.work.stop(STEP_SECONDS)


@contextmanager
def client(settings: Settings) -> Iterator[DBOSClient]:
    """Connect to DBOS's tables from a process that need not carry out workflows."""
    connection = DBOSClient(system_database_url=settings.dbos())
    try:
        yield connection
    finally:
        connection.destroy()


def has_tables(settings: Settings) -> bool:
    """Whether DBOS has created its tables: not before a process has carried out workflows here."""
    engine = sa.create_engine(settings.dbos())
    try:
        schema = None if settings.embedded_state else POSTGRESQL_SCHEMA
        return sa.inspect(engine).has_table("workflow_status", schema)
    finally:
        engine.dispose()


def enqueue_remotely(
    settings: Settings, workflow: Workflow, argument: str, workflow_id: str, partition: str | None
) -> None:
    """Queue a workflow for the workers, from a process that carries out none.

    If no worker has ever run, there is no queue yet; the first worker then finds the request.
    """
    options = EnqueueOptions(
        workflow_name=workflow.name,
        queue_name=workflow.queue,
        workflow_id=workflow_id,
        app_version=WORKFLOW_VERSION,
    )
    if partition is not None:
        options["queue_partition_key"] = partition
    try:
        with client(settings) as connection:
            queue = connection.retrieve_queue(workflow.queue)
            connection.enqueue(options, argument)
            if queue is not None:
                queue.set_polling_interval_sec(BUSY_POLL_SECONDS)
    except sa.exc.DBAPIError as error:
        get().warning("left to the next worker", reason=reason_of(error)[:LONGEST_REASON])


def prune(settings: Settings, finished_before: datetime, cancelled_before: datetime) -> int:
    """Delete the records of finished workflows: inputs, results, steps and events.

    What recovery needs is kept: unfinished workflows, cancelled ones, which can be resumed, and the
    children of both.

    Args:
        settings: the configuration; it names the database in which DBOS stores workflows.
        finished_before: workflows that succeeded or failed before this time are deleted. DBOS
            stamps them with the clock of its machine, whatever our clock shows.
        cancelled_before: the same for cancelled ones.

    Returns:
        The number of workflows deleted.

    """
    if not has_tables(settings):
        return 0
    with client(settings) as connection:
        rows = partial(connection.list_workflows, load_input=False, load_output=False)
        cancelled = partial(rows, status=CANCELLED, completed_before=_iso(cancelled_before))
        deleted = _delete_all(connection, cancelled, ())
        needed = {w.workflow_id for w in rows(status=[*UNFINISHED, *CANCELLED])}
        finished = partial(rows, status=FINISHED, completed_before=_iso(finished_before))
        return deleted + _delete_all(connection, finished, needed)


def _delete_all(
    connection: DBOSClient,
    find: Callable[..., list[WorkflowStatus]],
    needed: Collection[str],
) -> int:
    """Delete the workflows that `find` returns, except the children of the `needed` ones."""
    deleted = kept = 0
    while found := find(limit=PRUNED_AT_ONCE, offset=kept):
        ids = [w.workflow_id for w in found if w.parent_workflow_id not in needed]
        connection.delete_workflows(ids)
        deleted += len(ids)
        kept += len(found) - len(ids)
    return deleted


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a recorded step; it only raises `TisSyncError`, with a message for people."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TisSyncError:
            raise
        except DBAPIError as error:
            raise as_transient_error(error) or _unexpected(function.__name__, error) from error
        except Exception as error:
            raise _unexpected(function.__name__, error) from error
        except BaseException as error:
            if not is_panic(error):
                raise
            raise _panicked(function.__name__) from None  # a panic may quote data

    @wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        work = _work.get()
        if work is None:
            return guarded(*args, **kwargs)  # an ordinary call outside a workflow
        with work.step():
            return DBOS.run_step({"name": function.__name__}, guarded, *args, **kwargs)

    return recorded


def _bind(function: Callable[..., R], services: Any, work: Work) -> Callable[..., R]:
    """Bind a workflow to the services; it only raises `TisSyncError`, as steps do.

    While the process stops, it raises `Stopping` instead: DBOS refuses calls then, and that is no
    failure of the workflow.
    """

    @wraps(function)
    def bound(*args: Any) -> R:
        token = _work.set(work)
        try:
            return function(services, *args)
        except Exception as error:
            if work.stops:
                raise Stopping from error
            if isinstance(error, (TisSyncError, dbos_error.DBOSException)):
                raise
            raise _unexpected(function.__name__, error) from error
        finally:
            _work.reset(token)

    # DBOS reads the signature, and the services are not a recorded argument.
    del bound.__wrapped__
    return bound


def _panicked(name: str) -> TisSyncError:
    get().error("a library has panicked", step=name)
    return TisSyncError(
        f"A library has panicked in step {name.replace('_', ' ')}; the worker's standard error "
        "output contains the reason."
    )


def _unexpected(name: str, error: Exception) -> TisSyncError:
    report("unexpected error", error, step=name)
    return TisSyncError(
        f"Unexpected {type(error).__name__} in step {name.replace('_', ' ')}: "
        f"{reason_of(error)[:LONGEST_REASON]}. The log of the worker contains the traceback; on "
        "the command line, `--debug` shows it."
    )
