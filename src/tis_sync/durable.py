"""Durable execution: workflows and recorded steps, carried out by DBOS.

A workflow is a function whose steps are recorded. After a crash it is called again, on any worker,
and skips the steps that are done. So everything that reads or changes outside state is a step, and
steps can be repeated safely.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
from tis_sync.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

# Unfinished workflows of another version are not resumed. Increase this when the names or the order
# of a workflow's steps change.
WORKFLOW_VERSION = "3"
BUSY_POLL_SECONDS = 0.1  # how often a queue is polled while there is work
IDLE_POLL_SECONDS = 2.0  # how often it is polled while there is none
# The same if several workers share the queues. DBOS only shortens its interval by a tenth per poll,
# so after a long interval it would take a while before work is shared quickly.
SHARED_IDLE_POLL_SECONDS = 0.5
PRUNED_AT_ONCE = 1_000  # workflows in one transaction
POSTGRESQL_SCHEMA = "dbos"  # where DBOS has its tables on PostgreSQL
# The states of workflows in DBOS.
UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]
FINISHED = ["SUCCESS", "ERROR"]
CANCELLED = ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
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


@dataclass
class Engine:
    """DBOS in this process, with our workflows bound to the services of the process.

    Attributes:
        bound: the registered functions by workflow name.
        queues: the queues that this process serves.
        shared: whether other processes may serve them too (on PostgreSQL), so that work is shared.

    """

    bound: Mapping[str, Callable[..., Any]]
    queues: tuple[Queue, ...]
    shared: bool
    _is_busy: bool = field(default=True, init=False)

    def poll(self, *, busy: bool) -> None:
        """Poll the queues often while there is work, and rarely while there is none.

        The interval is a row that other processes also write, so it is read and compared each time.
        """
        idle_seconds = SHARED_IDLE_POLL_SECONDS if self.shared else IDLE_POLL_SECONDS
        seconds = BUSY_POLL_SECONDS if busy else idle_seconds
        self._is_busy = busy
        for queue in self.queues:
            found = DBOS.retrieve_queue(queue.name)
            if found is not None and found.polling_interval_sec != seconds:
                found.set_polling_interval_sec(seconds)

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
        workflow hands out work that other processes can share. Otherwise it starts here, at once.

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
                return DBOS.enqueue_workflow(workflow.queue, bound, *args)
            return DBOS.start_workflow(bound, *args)

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
) -> Engine:
    """Register the workflows, and start DBOS in this process.

    Args:
        settings: the configuration; it names the database in which DBOS stores workflows.
        services: the first argument of every workflow and step.
        worker_id: the id of this process.
        workflows: the workflows that this process can carry out.
        queues: the queues that it serves.

    """
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
    bound = {w.name: DBOS.workflow(name=w.name)(_bind(w.function, services)) for w in workflows}
    DBOS.launch()
    for queue in queues:
        DBOS.register_queue(
            queue.name,
            worker_concurrency=queue.per_worker,
            partition_concurrency=queue.per_partition,
            polling_interval_sec=BUSY_POLL_SECONDS,
        )
    return Engine(bound, queues, shared=not settings.embedded_state)


def shut_down(wait_seconds: int) -> None:
    """Stop DBOS in this process, after waiting up to `wait_seconds` for running workflows."""
    DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=wait_seconds)


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
        if DBOS.workflow_id is None:
            return guarded(*args, **kwargs)  # an ordinary call outside a workflow
        return DBOS.run_step({"name": function.__name__}, guarded, *args, **kwargs)

    return recorded


def _bind(function: Callable[..., R], services: Any) -> Callable[..., R]:
    """Bind a workflow to the services; it only raises `TisSyncError`, as steps do."""

    @wraps(function)
    def bound(*args: Any) -> R:
        try:
            return function(services, *args)
        except (TisSyncError, dbos_error.DBOSException):
            raise
        except Exception as error:
            raise _unexpected(function.__name__, error) from error

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
