"""Steer runs and schedules from outside the process that carries them out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOSClient, EnqueueOptions
from dbos import error as dbos_error

from tis_sync.errors import UsageError
from tis_sync.jobs.base import Job
from tis_sync.logs import get
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.schedule import PREFIX, schedule_name
from tis_sync.runs.services import Services
from tis_sync.runs.workflows import PARTS_QUEUE, RUNS_QUEUE, WORKFLOW_VERSION


@contextmanager
def _client(services: Services) -> Iterator[DBOSClient]:
    client = DBOSClient(system_database_url=services.settings.dbos())
    try:
        yield client
    finally:
        client.destroy()


@dataclass(frozen=True)
class Work:
    """A workflow to be queued from outside.

    Attributes:
        workflow: its name.
        queue: which queue.
        id: the workflow's id; of one that is there already, nothing is queued.
        argument: what it is called with.
        partition: the queue's partition, where it has some.

    """

    workflow: str
    queue: str
    id: str
    argument: str
    partition: str | None = None


def enqueue(services: Services, work: Sequence[Work]) -> None:
    """Queue work for workers, from a process that does not work itself.

    Where no worker has ever run, there is no queue yet; the first one finds what was asked for.
    """
    try:
        _enqueue(services, work)
    except sa.exc.DBAPIError as error:
        get().warning("left to the next worker", reason=" ".join(str(error.orig).split())[:160])


def _enqueue(services: Services, work: Sequence[Work]) -> None:
    with _client(services) as client:
        for item in work:
            options = EnqueueOptions(
                workflow_name=item.workflow,
                queue_name=item.queue,
                workflow_id=item.id,
                app_version=WORKFLOW_VERSION,
            )
            if item.partition is not None:
                options["queue_partition_key"] = item.partition
            client.enqueue(options, item.argument)


def cancel(services: Services, run_id: str) -> Run:
    """Cancel an active run, or a night with all its runs; what was applied stays applied.

    Raises:
        UsageError: there is no such run, or it has ended.

    """
    run = services.history.get(run_id)
    if not run.is_active:
        raise UsageError(f"Run {run.id[:8]} of {run.job} is {run.state}; there is nothing to stop.")
    affected = [run, *(child for child in services.history.children(run.id) if child.is_active)]
    with _client(services) as client:
        client.cancel_workflows([r.id for r in affected], cancel_children=True)
    for r in affected:
        services.history.end(r.id, "cancelled", services.clock(), "cancelled by hand")
    return services.history.get(run.id)


def resume(services: Services, run_id: str) -> Run:
    """Let a cancelled run go on from its last finished step, on any worker.

    Raises:
        UsageError: there is no such run, or it was not cancelled, or it is a night.
        AlreadyRunningError: another run of the job is active.

    """
    run = services.history.get(run_id)
    if run.job == NIGHT:
        raise UsageError(
            "A night does not go on; start a new one (`tis-sync night`): it writes what is left."
        )
    run = services.history.reopen(run.id)
    with _client(services) as client:
        parts = client.list_workflows(
            parent_workflow_id=run.id, status="CANCELLED", load_input=False, load_output=False
        )
        if parts:
            client.resume_workflows([part.workflow_id for part in parts], queue_name=PARTS_QUEUE)
        client.resume_workflow(run.id, queue_name=RUNS_QUEUE)
    return run


def pause_schedule(services: Services, job: Job, *, pause: bool) -> None:
    """Stop a job from starting by itself, or let it again.

    Raises:
        UsageError: no worker has ever registered schedules here.

    """
    name = schedule_name(job)
    with _client(services) as client:
        try:
            known = client.get_schedule(name)
        except dbos_error.DBOSException:
            known = None
        if known is None:
            raise UsageError(
                "No schedules are registered yet; they are when `tis-sync work` first starts."
            )
        (client.pause_schedule if pause else client.resume_schedule)(name)


def schedules(services: Services) -> dict[str, str]:
    """Our schedules that are registered, by name: ACTIVE or PAUSED."""
    with _client(services) as client:
        try:
            found = client.list_schedules(schedule_name_prefix=PREFIX)
        except Exception:  # noqa: BLE001  no worker ever ran here, so DBOS has no tables yet
            return {}
    return {str(schedule["schedule_name"]): str(schedule["status"]) for schedule in found}


def paused(services: Services) -> frozenset[str]:
    """The names of jobs whose schedule is paused."""
    found = schedules(services)
    return frozenset(name.removeprefix(PREFIX) for name in found if found[name] == "PAUSED")
