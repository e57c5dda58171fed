"""Commands hand their work to the process that runs; if none runs, they do it themselves.

A command never carries out what others have requested. If a worker lives, the command only records
its request, and the worker carries it out. If none does, the command works alone: on its own
request, with queues of its own. It also resumes whatever a dead process left unfinished of the same
request, and takes over when the worker dies in the meantime.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial

from dbos import DBOS

from tis_sync import logs
from tis_sync.durable.model import UNFINISHED, owner_of_queue
from tis_sync.execution.job_lock import prolong_java_locks
from tis_sync.execution.workflow import start
from tis_sync.jobs.catalogue import JOB_BY_NAME, upstream
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.workers import cluster
from tis_sync.workers.cluster import Components
from tis_sync.workers.home import HomeInUseError, Purpose, home_lock

LOOK_SECONDS = 0.5  # how often a command looks whether it has to work itself
JOIN_SECONDS = 10.0  # how long to wait for its thread to stop


class Command:
    """The work of one command.

    Args:
        components: what a working process consists of.
        services: the services of this process.

    """

    def __init__(self, components: Components, services: Services) -> None:
        self._components = components
        self._services = services
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="handover", daemon=True)
        self._work = ExitStack()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Work, unless a worker lives; and look again until `stop` is called."""
        waits_for = self._work_if_nobody_does()
        if waits_for is not None:
            print(f"tis-sync: waiting for the command of process {waits_for}", file=sys.stderr)
        self._thread.start()

    def stop(self) -> None:
        """Stop working; what is unfinished goes back to the queues that all workers serve."""
        self._stop.set()
        if self._thread.ident is not None:  # `start` may have failed before it started
            self._thread.join(JOIN_SECONDS)
        with self._lock:
            self._work.close()

    def _look(self) -> None:
        prolonged_at = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                if self._services.engine is None:
                    self._work_if_nobody_does()
                    continue
                take_up(self._services, self._services.awaited)
                if time.monotonic() - prolonged_at >= self._services.settings.heartbeat_seconds:
                    prolonged_at = time.monotonic()
                    prolong_java_locks(self._services)
            except Exception as error:  # noqa: BLE001  the next one may succeed
                logs.get().warning("handover failed", exc_info=error)

    def _work_if_nobody_does(self) -> int | None:
        """Start to work if no worker lives.

        Returns:
            The id of a process whose command has to end first. None: this process works now, or a
            worker does.

        """
        s = self._services
        with self._lock, ExitStack() as stack:
            if self._stop.is_set():
                return None
            if cluster.uses_home(s.settings):
                try:
                    stack.enter_context(home_lock(s.settings.home, Purpose.COMMAND))
                except HomeInUseError as error:
                    return error.owner.process if error.owner.purpose == Purpose.COMMAND else None
            if not s.settings.embedded_state and cluster.live_workers(s):
                return None
            engine = stack.enter_context(
                cluster.engine_running(self._components, s, 0, schedules=False, alone=True)
            )
            stack.enter_context(s.delivering())
            s.work_with(engine)
            take_up(s, s.awaited)
            self._work = stack.pop_all()
        return None


@contextmanager
def command_session(
    components: Components,
    settings: Settings,
    *,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Services]:
    """Have what is requested in the block carried out: by the workers, or else by this process.

    Args:
        components: what a working process consists of.
        settings: the configuration.
        clock: returns the current time. None: the machine's clock.

    Raises:
        UnreachableError: the state database does not answer.

    """
    with ExitStack() as stack:
        services = Services(settings, clock)
        stack.callback(services.close)
        history = services.history
        logs.to_history(lambda run, level, text: history.log(run, services.clock(), level, text))
        stack.callback(logs.to_history, None)
        command = Command(components, services)
        stack.callback(command.stop)
        command.start()
        yield services


def take_up(s: Services, awaited: Collection[str]) -> int:
    """Carry out here what no living process does of the wanted work, and of what it waits for.

    Dead processes may have left it unfinished. Runs that the wanted ones wait for may also be those
    of another command, which waits for this one to end.

    Args:
        s: settings, clock and servers; this process works.
        awaited: ids of runs and of workflows, or prefixes of ids.

    Returns:
        The number of workflows taken up.

    """
    if s.engine is None or not awaited:
        return 0
    family = [run for run_id in tuple(awaited) for run in s.history.family(run_id)]
    ahead = s.history.active_of(_upstream_of(family))
    prefixes = [*dict.fromkeys([*awaited, *(run.id for run in [*family, *ahead])])]
    find = partial(DBOS.list_workflows, status=UNFINISHED, load_input=False, load_output=False)
    found = [*find(workflow_id_prefix=prefixes), *find(parent_workflow_id=prefixes)]
    processes = {s.worker_id, *s.workers.alive(all_processes=True)}
    if s.settings.embedded_state:
        processes = {s.worker_id}  # we hold the lock of the home
    has_workers = not s.settings.embedded_state and bool(cluster.live_workers(s))
    left = {
        w.workflow_id: w
        for w in found
        if not _is_taken(w.executor_id if w.status == "PENDING" else None, w.queue_name, processes)
        and not (has_workers and w.status != "PENDING" and not owner_of_queue(w.queue_name))
    }
    s.engine.adopt(left.values())
    return len(left) + _start_unqueued(s, [*family, *ahead])


def _start_unqueued(s: Services, runs: Iterable[Run]) -> int:
    """Start active runs that were recorded but never queued; return how many.

    Their process has died, or found no tables of DBOS yet and now waits for this one to end.
    """
    active = {run.workflow_id: run for run in runs if run.is_active}
    if not active:
        return 0
    known = DBOS.list_workflows(workflow_ids=[*active], load_input=False, load_output=False)
    unqueued = active.keys() - {workflow.workflow_id for workflow in known}
    for workflow_id in unqueued:
        start(s, active[workflow_id])
    return len(unqueued)


def _upstream_of(runs: Iterable[Run]) -> set[str]:
    """The names of the jobs whose active runs these runs may wait for."""
    active = [run for run in runs if run.is_active]
    if any(run.job == NIGHT for run in active):
        return set(JOB_BY_NAME)
    return {name for run in active for name in upstream(JOB_BY_NAME[run.job])}


def _is_taken(executor: str | None, queue: str | None, processes: Collection[str]) -> bool:
    """Whether a living process carries out a workflow, or has it in a queue of its own."""
    return executor in processes or owner_of_queue(queue) in processes


def is_interrupted(s: Services, run: Run) -> bool:
    """Whether this process works, and no living process carries out this active run.

    If so, the run is carried out here from now on.
    """
    if s.engine is None:
        return False
    if DBOS.get_workflow_status(run.workflow_id) is not None:
        return take_up(s, [run.id]) > 0
    start(s, run)
    return True
