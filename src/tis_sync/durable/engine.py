"""DBOS in this process: launch it with our workflows, hand work to it, and stop it."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle, WorkflowStatus
from dbos import error as dbos_error

from tis_sync.durable.model import OWNER_MARK, Queue, Schedule, Workflow, shared_queue
from tis_sync.durable.recorded_step import unexpected
from tis_sync.durable.serialization import JSON, refuse_other_serializers, signature_of
from tis_sync.durable.work import Stopping, Work, current_work
from tis_sync.errors import TisSyncError
from tis_sync.memory import limit_arenas
from tis_sync.settings.model import Settings

# Unfinished workflows of another version are not resumed. Increase this when the names, the order
# or the types of a workflow's steps change.
WORKFLOW_VERSION = "5"
BUSY_POLL_SECONDS = 0.1  # how often a queue is polled while there is work
# How often it is polled while there is none: each poll takes about five statements. Another process
# cannot wake an idle one, so a command that hands over its work waits this long. DBOS shortens its
# interval only by a tenth per poll, so another worker shares work at full speed after 18 s.
IDLE_POLL_SECONDS = 2.0
# How long DBOS's listener sleeps on SQLite, and so how long a process takes to end. It listens to
# messages between workflows, of which we send none, so waking it reads nothing.
LISTENER_SECONDS = 0.1
STEP_SECONDS = 10  # how long a process that stops waits for the steps that run


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
        seconds = BUSY_POLL_SECONDS if busy else IDLE_POLL_SECONDS
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
        plain = signature_of(workflow.function).plain_arguments(args)
        with ExitStack() as stack:
            if workflow_id is not None:
                stack.enter_context(SetWorkflowID(workflow_id))
            if partition is not None:
                stack.enter_context(SetEnqueueOptions(queue_partition_key=partition))
            if partition is not None or (self.shared and DBOS.workflow_id is not None):
                return DBOS.enqueue_workflow(self.queue_name(workflow.queue), bound, *plain)
            return DBOS.start_workflow(bound, *plain)

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
        types = signature_of(workflow.function)
        handles = [
            DBOS.enqueue_workflow(name, bound, *types.plain_arguments(some)) for some in arguments
        ]
        results = [handle.get_result(polling_interval_sec=poll_seconds) for handle in handles]
        return [types.returned(result) for result in results]

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


def register(
    settings: Settings,
    services: Any,
    worker_id: str,
    workflows: Iterable[Workflow],
    queues: tuple[Queue, ...],
    *,
    alone: bool = False,
) -> Engine:
    """Configure DBOS in this process, and register the workflows; `launch` then starts it.

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
    refuse_other_serializers()
    all_workflows = tuple(workflows)
    DBOS(
        config={
            "name": "tis-sync",
            "system_database_url": settings.dbos(),
            "application_version": WORKFLOW_VERSION,
            "executor_id": worker_id,
            "log_level": "WARNING",
            "enable_otlp": False,
            "serializer": JSON,
            "notification_listener_polling_interval_sec": LISTENER_SECONDS,
            "db_engine_kwargs": {"hide_parameters": True},  # its errors are logged
        }
    )
    work = Work()
    return Engine(
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


def launch(engine: Engine) -> None:
    """Start DBOS in this process; it only serves the queues of the engine.

    Work may begin before this returns.
    """
    DBOS.listen_queues([engine.queue_name(queue.name) for queue in engine.queues])
    DBOS.launch()
    for queue in engine.queues:
        DBOS.register_queue(
            engine.queue_name(queue.name),
            worker_concurrency=queue.per_worker,
            partition_concurrency=queue.per_partition,
            polling_interval_sec=BUSY_POLL_SECONDS,
        )


def shut_down(engine: Engine, wait_seconds: int) -> None:
    """Stop DBOS in this process.

    Workflows that do not end in time stop after their current step. They stay unfinished, so that
    other processes resume them.

    Args:
        engine: what `register` returned.
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


def _bind(function: Callable[..., Any], services: Any, work: Work) -> Callable[..., Any]:
    """Bind a workflow to the services; it takes and returns plain data.

    It only raises `TisSyncError`, as steps do.

    While the process stops, it raises `Stopping` instead: DBOS refuses calls then, and that is no
    failure of the workflow.
    """

    @wraps(function)
    def bound(*args: Any) -> Any:
        token = current_work.set(work)
        try:
            types = signature_of(function)
            return types.plain_result(function(services, *types.arguments(args)))
        except Exception as error:
            if work.stops:
                raise Stopping from error
            if isinstance(error, (TisSyncError, dbos_error.DBOSException)):
                raise
            raise unexpected(function.__name__, error) from error
        finally:
            current_work.reset(token)

    # DBOS reads the signature, and the services are not a recorded argument.
    del bound.__wrapped__
    return bound
