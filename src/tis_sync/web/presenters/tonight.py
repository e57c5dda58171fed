"""The data of the page Tonight: this night's jobs, usual durations, the indexes, the alarms."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from enum import StrEnum
from typing import Generic, TypeVar

from tis_sync.alarms.store import Alarm
from tis_sync.errors import TisSyncError
from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.catalogue import JOBS, upstream
from tis_sync.runs.run import NIGHT, Run, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.web.presenters.charts import Graph, Usual, graph, title_of, usual
from tis_sync.web.presenters.remedies import Remedy, remedy_of
from tis_sync.workers.cluster import live_workers
from tis_sync.workers.schedule import times

NIGHTS = 30  # on which usual durations are based
COUNT_SECONDS = 15.0  # for which the counts of the indexes are cached

T = TypeVar("T")


class NotRun(StrEnum):
    """The state of a job without a run this night."""

    WAITING = "waiting"  # for its time
    NEVER = "never run"


@dataclass(frozen=True)
class JobTonight:
    """A job this night.

    Attributes:
        job: the job.
        title: its name in words.
        state: of its run today; of an earlier run that failed or is held; or why there is none.
        run: its newest run that was not a dry run.
        is_today: whether that run began today, or is active.
        of_night: the newest run of this night: one that was scheduled, or belongs to a night, or
            followed such a run. Runs that somebody started are not of the night.
        at: its time of day, UTC.
        usual: its usual duration.
        progress: the share of its current phase that is done, from 0 to 1; None: it is not active.

    """

    job: Job
    title: str
    state: RunState | NotRun
    run: Run | None
    is_today: bool
    of_night: Run | None
    at: str
    usual: Usual | None
    progress: float | None

    @property
    def seconds(self) -> float | None:
        """The duration of this night's run."""
        return None if self.of_night is None else self.of_night.seconds


@dataclass(frozen=True)
class IndexTonight:
    """A search index: is it complete and up to date?

    Attributes:
        alias: the name that readers use.
        job: the job that updates it.
        expected: the number of documents after the last successful run.
        indexed: the number of documents that the search server reports.
        error: why the search server does not report it.
        updated_at: when the last successful run ended.
        verified: the last successful dry run, which compares every document.
        unfinished: what keeps it from being up to date: the last run of its job, or of an upstream
            job, that failed or was held or cancelled ("PersonOwnerRebuildJob failed").

    """

    alias: str
    job: Job
    expected: int | None
    indexed: int | None
    error: str | None
    updated_at: datetime | None
    verified: Run | None
    unfinished: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether it contains as many documents as expected, and nothing keeps it out of date."""
        return self.indexed is not None and self.indexed == self.expected and not self.unfinished


@dataclass(frozen=True)
class Tonight:
    """Everything that the page shows."""

    day: date
    night: Run | None
    jobs: list[JobTonight]
    graph: Graph
    longest: float
    indexes: list[IndexTonight]
    alarms: list[tuple[Alarm, Remedy]]
    workers: int

    @property
    def is_running(self) -> bool:
        """Whether a job is queued or running."""
        return any(entry.run is not None and entry.run.is_active for entry in self.jobs)

    def entry_of(self, job: Job) -> JobTonight:
        """The entry of a job."""
        return next(entry for entry in self.jobs if entry.job.name == job.name)


class Cached(Generic[T]):
    """A costly value, computed again when it is too old."""

    def __init__(self, compute: Callable[[], T], seconds: float) -> None:
        self._compute, self._seconds = compute, seconds
        self._lock = threading.Lock()
        self._value: tuple[float, T] | None = None

    def __call__(self) -> T:
        """Return the value."""
        with self._lock:
            if self._value is None or time.monotonic() - self._value[0] > self._seconds:
                self._value = (time.monotonic(), self._compute())
            return self._value[1]


IndexCounts = Mapping[str, int | str | None]
"""The documents of each index, by alias: their number, an error, or None: there is no index."""


def count_indexes(s: Services) -> IndexCounts:
    """Ask the search server how many documents each index contains."""
    counts: dict[str, int | str | None] = {}
    for job in JOBS:
        if isinstance(job.target, IndexTarget):
            spec = job.target.spec
            try:
                live = s.search().live(spec)
                counts[spec.alias] = None if live is None else live.documents
            except TisSyncError as error:
                counts[spec.alias] = str(error)
    return counts


def tonight(s: Services, index_counts: Callable[[], IndexCounts]) -> Tonight:
    """Read what the page shows, with a few statements, however long the history is."""
    midnight = s.clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    runs: dict[str, list[Run]] = defaultdict(list)
    dry_runs: dict[str, Run] = {}
    for run in s.history.since(midnight - timedelta(days=NIGHTS)):
        if not run.options.dry_run:
            runs[run.job].append(run)
        elif run.state == RunState.SUCCEEDED:
            dry_runs.setdefault(run.job, run)
    at = times(s.settings)
    by_id = {run.id: run for several in runs.values() for run in several}
    jobs = [_job_tonight(job, runs[job.name], by_id, midnight, at[job.name]) for job in JOBS]
    durations = [
        *(entry.seconds or 0.0 for entry in jobs),
        *(entry.usual.high for entry in jobs if entry.usual),
    ]
    counts = index_counts()
    return Tonight(
        day=midnight.date(),
        night=next((run for run in runs[NIGHT] if run.created_at >= midnight), None),
        jobs=jobs,
        graph=graph(),
        longest=max(durations, default=0.0),
        indexes=[
            _index_tonight(job, job.target, runs, dry_runs.get(job.name), counts)
            for job in JOBS
            if isinstance(job.target, IndexTarget)
        ],
        alarms=[(alarm, remedy_of(alarm)) for alarm in s.alarms.open_alarms()],
        workers=len(live_workers(s)),
    )


def _job_tonight(
    job: Job, runs: list[Run], by_id: Mapping[str, Run], midnight: datetime, at: clock_time
) -> JobTonight:
    """The entry of a job, from its runs of the last nights, newest first, and all runs by id."""
    last = runs[0] if runs else None
    is_today = last is not None and (last.created_at >= midnight or last.is_active)
    of_nights = [run for run in runs if _is_of_night(run, by_id)]
    of_night = next((r for r in of_nights if r.created_at >= midnight or r.is_active), None)
    state: RunState | NotRun = NotRun.NEVER
    progress = None
    if last is not None:
        is_open = last.state in {RunState.FAILED, RunState.HELD}  # since an earlier night, perhaps
        state = last.state if is_today or is_open else NotRun.WAITING
        if last.is_active:
            progress = min(1.0, last.partitions_done / last.partitions) if last.partitions else 0.0
    nights: dict[date, float] = {}
    for run in of_nights:
        if run.state == RunState.SUCCEEDED and run.seconds is not None and run is not of_night:
            nights.setdefault(run.created_at.date(), run.seconds)
    return JobTonight(
        job,
        title_of(job),
        state,
        last,
        is_today,
        of_night,
        f"{at:%H:%M}",
        usual(list(nights.values())),
        progress,
    )


def _is_of_night(run: Run, by_id: Mapping[str, Run]) -> bool:
    """Whether a run belongs to a night or a schedule, itself or as a follow-up."""
    while run.trigger == Trigger.FOLLOW_UP and (parent := by_id.get(run.parent or "")) is not None:
        run = parent
    return run.trigger not in {Trigger.MANUAL, Trigger.FOLLOW_UP}


def _index_tonight(
    job: Job,
    target: IndexTarget,
    runs: Mapping[str, list[Run]],
    verified: Run | None,
    counts: IndexCounts,
) -> IndexTonight:
    alias = target.spec.alias
    success = next((run for run in runs[job.name] if run.state == RunState.SUCCEEDED), None)
    count = counts[alias]
    last = [
        next((run for run in runs[name] if not run.is_active and not run.past_day), None)
        for name in (job.name, *sorted(upstream(job)))
    ]
    return IndexTonight(
        alias=alias,
        job=job,
        expected=None if success is None else success.size,
        indexed=count if isinstance(count, int) else None,
        error=count if isinstance(count, str) else None,
        updated_at=None if success is None else success.finished_at,
        verified=verified,
        unfinished=[
            f"{run.job} {run.state}"
            for run in last
            if run is not None and run.state != RunState.SUCCEEDED
        ],
    )
