"""DBOS's tables, for processes that carry out no workflows: requests, and retention."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

from tis_sync.durable.engine import BUSY_POLL_SECONDS, WORKFLOW_VERSION
from tis_sync.durable.model import CANCELLED, FINISHED, UNFINISHED, Workflow
from tis_sync.durable.recorded_step import LONGEST_REASON
from tis_sync.durable.serialization import JSON, refuse_other_serializers
from tis_sync.logs import get, reason_of
from tis_sync.settings.model import Settings

PRUNED_AT_ONCE = 1_000  # workflows in one transaction
POSTGRESQL_SCHEMA = "dbos"  # where DBOS has its tables on PostgreSQL


@contextmanager
def client(settings: Settings) -> Iterator[DBOSClient]:
    """Connect to DBOS's tables from a process that need not carry out workflows."""
    refuse_other_serializers()
    connection = DBOSClient(system_database_url=settings.dbos(), serializer=JSON)
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


def prune_workflows(
    settings: Settings, finished_before: datetime, cancelled_before: datetime
) -> int:
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
