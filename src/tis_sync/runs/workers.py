"""Workers tell that they live; the living take over the unfinished work of the dead.

DBOS goes on with a process's work only when a process of the same id comes back, or when asked. So
every process that carries out runs keeps a row with a heartbeat. Who finds a row gone silent claims
it (one UPDATE that only one can win), and puts the dead process's workflows back on their queues.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from dbos import DBOS, DBOSClient

from tis_sync.logs import get
from tis_sync.runs.run import NIGHT
from tis_sync.runs.services import Services
from tis_sync.runs.workflows import RUNS_QUEUE, start, start_night
from tis_sync.state import tables as t

HANDED_ON = "the process that worked on this stopped; another one goes on with it"
ORPHAN_SECONDS = 10.0  # a run asked for this long ago whose workflow was never queued


def enlist(services: Services, *, schedules: bool) -> None:
    """Write this process's row."""
    now = services.clock()
    with services.state.execution_options(writes=True).begin() as connection:
        connection.execute(
            sa.insert(t.worker).values(
                id=services.worker_id, started_at=now, heartbeat_at=now, schedules=schedules
            )
        )


def beat(services: Services, *, schedules: bool) -> None:
    """Say that this process lives; one that was thought dead writes its row anew."""
    with services.state.execution_options(writes=True).begin() as connection:
        result = connection.execute(
            sa.update(t.worker)
            .where(t.worker.c.id == services.worker_id)
            .values(heartbeat_at=services.clock(), buried_at=None, buried_by=None)
        )
    if not result.rowcount:
        get().warning("thought dead", worker=services.worker_id)
        enlist(services, schedules=schedules)


def retire(services: Services) -> None:
    """End this process's part, DBOS's being over: put unfinished work back, drop its row."""
    client = DBOSClient(system_database_url=services.settings.dbos())
    try:
        _tell_runs(services, _requeue(services.worker_id, client))
    finally:
        client.destroy()
    _forget(services, services.worker_id)


def living(engine: sa.Engine, now: datetime, dead_after: float) -> list[str]:
    """The ids of workers with schedules whose heartbeat is fresh."""
    statement = sa.select(t.worker.c.id).where(
        t.worker.c.schedules, t.worker.c.heartbeat_at >= now - timedelta(seconds=dead_after)
    )
    with engine.connect() as connection:
        return list(connection.scalars(statement))


def bury_dead(services: Services, *, all_others: bool = False) -> int:
    """Take over the work of workers that went silent; returns how many there were.

    Args:
        services: the servers.
        all_others: every other row is of a dead process (we hold the lock of an embedded home).

    """
    now = services.clock()
    silent = now - timedelta(seconds=services.settings.dead_after_seconds)
    is_dead = t.worker.c.id != services.worker_id
    if not all_others:
        is_dead = sa.and_(
            is_dead,
            t.worker.c.heartbeat_at < silent,
            # A claim holds as long as a heartbeat: its owner may have died over it.
            sa.or_(t.worker.c.buried_at.is_(None), t.worker.c.buried_at < silent),
        )
    with services.state.connect() as connection:
        dead = list(connection.scalars(sa.select(t.worker.c.id).where(is_dead)))
    buried = 0
    for worker_id in dead:
        with services.state.execution_options(writes=True).begin() as connection:
            claimed = connection.execute(
                sa.update(t.worker)
                .where(t.worker.c.id == worker_id, is_dead)
                .values(buried_at=now, buried_by=services.worker_id)
            )
        if claimed.rowcount:
            ids = _requeue(worker_id, DBOS)
            get().warning("took over", worker=worker_id, workflows=len(ids))
            _tell_runs(services, ids)
            _forget(services, worker_id)
            buried += 1
    return buried


def adopt_orphans(services: Services) -> None:
    """Start runs that were asked for but never queued; end runs whose workflow is over.

    Both are left by a process that died between two lines.
    """
    now = services.clock()
    for run in services.history.all_active():
        if (now - run.created_at).total_seconds() < ORPHAN_SECONDS:
            continue
        status = DBOS.get_workflow_status(run.id)
        if status is None:
            if run.job == NIGHT:
                start_night(run.id)
            else:
                start([run.id])
        elif status.status not in {"PENDING", "ENQUEUED", "DELAYED"}:
            # If it ended by itself between the two reads, this changes nothing.
            why = f"its workflow ended as {status.status}, before the run did"
            services.history.end(run.id, "failed", now, why)


def _tell_runs(services: Services, workflow_ids: Collection[str]) -> None:
    """Say in the log of each run among these workflows that others go on with it."""
    for run in services.history.all_active():
        if run.id in workflow_ids:
            services.history.log(run.id, services.clock(), "warning", HANDED_ON)


def _requeue(worker_id: str, dbos: type[DBOS] | DBOSClient) -> list[str]:
    """Put a process's unfinished workflows back on their queues; returns their ids."""
    pending = dbos.list_workflows(
        executor_id=worker_id, status="PENDING", load_input=False, load_output=False
    )
    by_queue: dict[str, list[str]] = {}
    for workflow in pending:
        by_queue.setdefault(workflow.queue_name or RUNS_QUEUE, []).append(workflow.workflow_id)
    for queue, ids in by_queue.items():
        dbos.resume_workflows(ids, queue_name=queue)
    return [workflow.workflow_id for workflow in pending]


def _forget(services: Services, worker_id: str) -> None:
    with services.state.execution_options(writes=True).begin() as connection:
        connection.execute(sa.delete(t.worker).where(t.worker.c.id == worker_id))
