"""What the page Tonight tells: this night's jobs, what is usual, whether search is right."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Generic, TypeVar

from tis_sync.alerts.alarms import Alarm
from tis_sync.errors import TisSyncError
from tis_sync.jobs.base import IndexProduct, Job
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.schedule import times
from tis_sync.runs.services import Services
from tis_sync.runs.workers import living
from tis_sync.web.picture import Graph, Usual, graph, title_of, usual
from tis_sync.web.remedy import Remedy, remedy

NIGHTS = 30  # that "usual" is made of
COUNT_SECONDS = 15.0  # how long a count of an index is good enough
WAITING, NEVER = "waiting", "never ran"

T = TypeVar("T")


@dataclass(frozen=True)
class JobNow:
    """A job as it is now.

    Attributes:
        job: which.
        title: its name in words.
        state: of its run this night; "waiting": it has not run this night; "never ran".
        run: its newest run that was meant to write.
        tonight: whether that run is of this night.
        at: its time of day, UTC.
        usual: how long it usually takes.
        done: share of its present phase that is done, from 0 to 1; None: it does not run.

    """

    job: Job
    title: str
    state: str
    run: Run | None
    tonight: bool
    at: str
    usual: Usual | None
    done: float | None

    @property
    def seconds(self) -> float | None:
        """How long this night's run took."""
        return self.run.seconds if self.run is not None and self.tonight else None


@dataclass(frozen=True)
class IndexNow:
    """Is search right? What an index should hold and does hold, since when, when it was checked."""

    alias: str
    job: Job
    should_hold: int | None
    holds: int | None
    trouble: str | None
    made_at: datetime | None
    verified: Run | None

    @property
    def is_right(self) -> bool:
        """Whether it holds as many documents as it should."""
        return self.trouble is None and self.holds is not None and self.holds == self.should_hold


@dataclass(frozen=True)
class Tonight:
    """All that the page tells."""

    day: date
    night: Run | None
    jobs: list[JobNow]
    graph: Graph
    longest: float
    indexes: list[IndexNow]
    alarms: list[tuple[Alarm, Remedy]]
    workers: int

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return any(now.run is not None and now.run.is_active for now in self.jobs)

    def of(self, job: Job) -> JobNow:
        """What is known of a job."""
        return next(now for now in self.jobs if now.job.name == job.name)


class Remembered(Generic[T]):
    """The answer of a question that costs something, asked again when it has grown old."""

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._lock = threading.Lock()
        self._answer: tuple[float, T] | None = None

    def __call__(self) -> T:
        """The answer."""
        with self._lock:
            if self._answer is None or time.monotonic() - self._answer[0] > self._seconds:
                self._answer = (time.monotonic(), self._ask())
            return self._answer[1]


Counts = dict[str, int | str | None]
"""What each index holds, by alias: a count; a text: why it cannot be told; None: nothing there."""


def count_indexes(s: Services) -> Counts:
    """Ask the search server."""
    found: Counts = {}
    for job in JOBS:
        if isinstance(job.product, IndexProduct):
            spec = job.product.spec
            try:
                live = s.search().live(spec)
                found[spec.alias] = None if live is None else live.documents
            except TisSyncError as error:
                found[spec.alias] = str(error)
    return found


def tonight(s: Services, counts: Callable[[], Counts]) -> Tonight:
    """Read what the page tells: a few statements, whatever the length of the history."""
    now = s.clock()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    runs: dict[str, list[Run]] = defaultdict(list)
    checks: dict[str, Run] = {}
    for run in s.history.since(midnight - timedelta(days=NIGHTS)):
        if not run.options.dry_run:
            runs[run.job].append(run)
        elif run.state == "succeeded":
            checks.setdefault(run.job, run)
    at = times(s.settings)
    jobs = [_job_now(job, runs[job.name], midnight, at[job.name]) for job in JOBS]
    longest = max(
        [now_.seconds or 0.0 for now_ in jobs] + [n.usual.high for n in jobs if n.usual],
        default=0.0,
    )
    held = counts()
    return Tonight(
        day=midnight.date(),
        night=next((run for run in runs[NIGHT] if run.created_at >= midnight), None),
        jobs=jobs,
        graph=graph(),
        longest=longest,
        indexes=[
            _index_now(job, runs[job.name], checks.get(job.name), held)
            for job in JOBS
            if isinstance(job.product, IndexProduct)
        ],
        alarms=[(alarm, remedy(alarm)) for alarm in s.alarms.open()],
        workers=len(living(s.state, now, s.settings.dead_after_seconds)),
    )


def _job_now(job: Job, runs: list[Run], midnight: datetime, at: clock_time) -> JobNow:
    """`runs`: those of the last nights, newest first."""
    last = runs[0] if runs else None
    of_tonight = last is not None and (last.created_at >= midnight or last.is_active)
    state = NEVER
    if last is not None:
        state = last.state if of_tonight or last.state in {"failed", "held"} else WAITING
    done = None
    if last is not None and last.is_active:
        done = min(1.0, last.partitions_done / last.partitions) if last.partitions else 0.0
    nights: dict[date, float] = {}
    for run in runs:
        if run.state == "succeeded" and run.seconds is not None and run is not last:
            nights.setdefault(run.created_at.date(), run.seconds)
    return JobNow(
        job, title_of(job), state, last, of_tonight, f"{at:%H:%M}",
        usual(list(nights.values())), done,
    )  # fmt: skip


def _index_now(job: Job, runs: list[Run], verified: Run | None, held: Counts) -> IndexNow:
    assert isinstance(job.product, IndexProduct)
    alias = job.product.spec.alias
    good = next((run for run in runs if run.state == "succeeded"), None)
    said = held[alias]
    return IndexNow(
        alias=alias,
        job=job,
        should_hold=None if good is None else good.size,
        holds=said if isinstance(said, int) else None,
        trouble=said if isinstance(said, str) else None,
        made_at=None if good is None else good.finished_at,
        verified=verified,
    )
