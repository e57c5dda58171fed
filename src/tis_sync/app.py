"""The composition root: everything that a working process consists of.

Importing a module registers nothing. What is not listed here does not run.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial

from tis_sync import actions, retention
from tis_sync.alarms.monitoring import Task
from tis_sync.doctor import drift, examination
from tis_sync.doctor.finding import Finding
from tis_sync.durable.model import Queue, Schedule
from tis_sync.errors import TisSyncError
from tis_sync.esr.export import monitor as export_monitor
from tis_sync.esr.export import workflow as export_workflow
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.messaging import monitor as messaging_monitor
from tis_sync.esr.messaging.consumer import consuming
from tis_sync.execution import job_lock, workflow
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.workers import cluster, handover, monitor, schedule
from tis_sync.workers.cluster import Components


def queues(settings: Settings) -> tuple[Queue, ...]:
    """The queues that a process serves."""
    return (*workflow.queues(settings), *export_workflow.QUEUES)


def schedules(settings: Settings) -> list[Schedule]:
    """Everything that starts automatically."""
    return [
        *schedule.job_schedules(settings),
        *export_workflow.schedules(settings),
        retention.SCHEDULE,
    ]


def is_idle(s: Services) -> bool:
    """Whether no run and no export command is queued or running."""
    active = (CommandState.QUEUED, CommandState.RUNNING)
    return not s.history.all_active() and not Commands(s.state).in_state(*active)


def examine(
    s: Services, names: Collection[str] | None = None, *, writes: bool = True
) -> list[Finding]:
    """Check everything that the service relies on; see `examination.examine`."""
    return examination.examine(s, schedules(s.settings), names, writes=writes)


def consume(s: Services) -> AbstractContextManager[None]:
    """Consume messages while the block lasts."""
    return consuming(s, partial(actions.export, s))


COMPONENTS = Components(
    workflows=(*workflow.WORKFLOWS, *export_workflow.WORKFLOWS, retention.PRUNE),
    queues=queues,
    schedules=schedules,
    monitors=(
        Task("jobs", monitor.check_jobs),
        Task("export", export_monitor.check_export),
        Task("messages", messaging_monitor.check_messages),
        Task("broker drift", drift.check_broker_drift),
        Task(
            "drift",
            partial(drift.check_drift, schedules),
            drift.EXAMINE_SECONDS,
            drift.EXAMINE_LIMIT_SECONDS,
        ),
    ),
    recoveries=(
        workflow.recover_runs,
        job_lock.prolong_java_locks,
        cluster.drop_workspaces,
        export_workflow.recover_commands,
    ),
    is_idle=is_idle,
    consumers=(consume,),
)


@contextmanager
def session(
    settings: Settings,
    *,
    scheduler: bool = False,
    clock: Callable[[], datetime] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Services]:
    """Carry out runs and exports in this process while the block lasts.

    Arguments and errors as for `tis_sync.workers.cluster.session`.
    """
    with cluster.session(
        COMPONENTS, settings, scheduler=scheduler, clock=clock, stop=stop
    ) as services:
        if scheduler:
            # It may have been down at the time of the schedule. What cannot be deleted now must not
            # keep it from starting; the retention logs it.
            with suppress(TisSyncError):
                retention.prune(services)
        yield services


def command_session(
    settings: Settings, *, clock: Callable[[], datetime] | None = None
) -> AbstractContextManager[Services]:
    """Have runs and exports carried out while the block lasts: by a worker, or by this process.

    Arguments and errors as for `tis_sync.workers.handover.command_session`.
    """
    return handover.command_session(COMPONENTS, settings, clock=clock)
