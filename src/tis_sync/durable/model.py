"""What durable execution consists of: queues, workflows and schedules, and the states in DBOS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The states of workflows in DBOS.
UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]
FAILED = "ERROR"
FINISHED = ["SUCCESS", FAILED]
CANCELLED = ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
# How often a run or command begins again because its workflow has ended with an error. That
# happens if the state database is away for long; anything else probably happens again.
MOST_RECOVERIES = 3
OWNER_MARK = "@"  # in the name of a queue: what follows is the id of the only process it is for


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


def shared_queue(name: str) -> str:
    """The name of the queue that all workers serve, given that of a process's own queue."""
    return name.partition(OWNER_MARK)[0]


def owner_of_queue(name: str | None) -> str | None:
    """The id of the only process that serves a queue; None: all workers serve it."""
    return (name or "").partition(OWNER_MARK)[2] or None
