"""A run of a job or of a whole night: its states, its options, and its row in the history."""

from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from json import dumps, loads
from typing import Any
from uuid import uuid4

from tis_sync.jobs.base import AsOf

NIGHT = "night"  # the name under which a whole night is recorded


class RunState(StrEnum):
    """The state of a run."""

    QUEUED = "queued"  # requested; no worker has begun it
    RUNNING = "running"
    HELD = "held"  # the guard holds its plan; parts of one judged before may be applied
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """What requested a run, an export command or a generation of records."""

    MANUAL = "manual"  # a person or a program, on the command line, in the console or by the API
    SCHEDULE = "schedule"
    START = "start"  # a worker that started during the night
    FOLLOW_UP = "follow-up"  # a run whose target this job builds on
    NIGHT = "night"
    MESSAGE = "message"  # a message from the broker
    CATCH_UP = "catch-up"  # a monitor that found a missed schedule
    EXPORT = "export"  # an export command that needs fresh records


class Phase(StrEnum):
    """What a run is doing."""

    CHECK = "check"
    PLAN = "plan"
    APPLY = "apply"
    FILL = "fill"
    PUBLISH = "publish"
    REPLACE = "replace"
    WAITING = "waiting"  # for its next attempt


@dataclass(frozen=True)
class RunOptions:
    """How a run was requested.

    Attributes:
        date: the value of `--date`: YYYY-MM-DD, ANY, NONE, or None for the usual days.
        dry_run: plan, and write nothing.
        rebuild: replace the whole table, or build the whole index.
        approve: apply the plan that the guard held last.
        follow_ups: run the jobs that build on this one if it changed something.
        approved_run: the held run whose plan is approved; determined when the run is requested.

    """

    date: str | None = None
    dry_run: bool = False
    rebuild: bool = False
    approve: bool = False
    follow_ups: bool = True
    approved_run: str | None = None

    def __str__(self) -> str:
        """The options that differ from the default, as on the command line; empty: none does."""
        named = {
            f"--date {self.date}": self.date is not None,
            "--dry-run": self.dry_run,
            "--rebuild": self.rebuild,
            "--approve": self.approve,
            "--no-follow-ups": not self.follow_ups,
        }
        return " ".join(option for option, is_given in named.items() if is_given)


@dataclass(frozen=True)
class Rerun:
    """A run to queue when the active run of its job ends.

    Attributes:
        trigger: what requested it.
        requested_by: the person or the process.
        parent: the night that it belongs to. None: the run that has just ended.
        approved_run: see `RunOptions`; for a night.

    """

    trigger: Trigger
    requested_by: str
    parent: str | None = None
    approved_run: str | None = None


@dataclass(frozen=True)
class RunDetail:
    """What is kept about a run besides its counts.

    Attributes:
        sample: for a dry run, the first records of each kind that it would write.
        duplicates: surplus records that the run removed: repeated rows of a table, or documents of
            an index that we did not write. They are included in the count `removed`.
        shrinkage: how many records fewer a new index or table would have contained.

    """

    sample: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    duplicates: int = 0
    shrinkage: int = 0


@dataclass(frozen=True)
class Run:
    """One run or one night, as recorded in the history. Counts are None until they are known."""

    id: str
    job: str
    trigger: Trigger
    requested_by: str
    parent: str | None
    as_of: AsOf
    options: RunOptions
    state: RunState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    phase: Phase | None
    partitions: int | None
    partitions_done: int
    considered: int | None
    added: int | None
    changed: int | None
    removed: int | None
    set_aside: int | None
    size: int | None
    error: str | None
    detail: RunDetail
    existing: int | None
    past_day: bool
    attempt: int
    restarts: int
    recoveries: int

    @property
    def is_active(self) -> bool:
        """Whether the run is queued or running."""
        return self.state in {RunState.QUEUED, RunState.RUNNING}

    @property
    def seconds(self) -> float | None:
        """How long it ran; None until it has ended, or if it never began."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def written(self) -> int:
        """Records added, changed and removed in total, according to the plan that was judged.

        Zero if the guard holds the plan, although parts of one that was judged before may have been
        applied; then the error says so. For a dry run, the number that would have been written.
        """
        if self.state == RunState.HELD:
            return 0
        return (self.added or 0) + (self.changed or 0) + (self.removed or 0)

    @property
    def workflow_id(self) -> str:
        """The id of the workflow that carries out the run; one that begins again has a new one."""
        earlier = self.restarts + self.recoveries
        return self.id if not earlier else f"{self.id}-{earlier}"

    @property
    def builds(self) -> list[str]:
        """The names of the builds that the run has begun or may have begun, the newest last.

        Each attempt has a build of its own, so that it never finds documents of an earlier one.
        """
        stem = self.id.replace("-", "")[:16]
        return [f"{stem}-{number}" for number in range(self.attempt + 1)]

    @property
    def lock_owner(self) -> str:
        """The name under which the run holds the Java service's lock."""
        return f"tis-sync {self.id}"


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log."""

    id: int
    at: datetime
    level: str
    text: str


def as_of_json(as_of: AsOf) -> str:
    """The days of a run as they are stored."""
    return dumps(asdict(as_of), default=date.isoformat)


def is_past_day(options: RunOptions, as_of: AsOf) -> bool:
    """Whether a run covers only a day in the past, which says nothing about the days since."""
    return options.date is not None and not as_of.every and as_of.last < as_of.today


def queued_row(
    job: str,
    trigger: Trigger,
    requested_by: str,
    as_of: AsOf,
    options: RunOptions,
    now: datetime,
    parent: str | None,
) -> dict[str, Any]:
    """The row of the table `run` for a run that has just been requested, by column."""
    return {
        "id": str(uuid4()),
        "job": job,
        "trigger": trigger,
        "requested_by": requested_by,
        "parent": parent,
        "as_of": as_of_json(as_of),
        "options": dumps(asdict(options)),
        "dry_run": options.dry_run,
        "past_day": is_past_day(options, as_of),
        "state": RunState.QUEUED,
        # A dry run is not a run of the job: it blocks nothing.
        "active_job": None if options.dry_run else job,
        "attempt": 0,
        "restarts": 0,
        "recoveries": 0,
        "needs_cleanup": False,
        "created_at": now,
        "partitions_done": 0,
    }


def run_from_row(row: dict[str, Any]) -> Run:
    """Convert a row of the table `run`."""
    as_of = loads(row["as_of"])
    days = {name: date.fromisoformat(as_of[name]) for name in ("today", "first", "last")}
    return Run(
        id=row["id"],
        job=row["job"],
        trigger=Trigger(row["trigger"]),
        requested_by=row["requested_by"],
        parent=row["parent"],
        as_of=AsOf(**days, every=as_of["every"]),
        options=RunOptions(**loads(row["options"])),
        state=RunState(row["state"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        phase=None if row["phase"] is None else Phase(row["phase"]),
        partitions=row["partitions"],
        partitions_done=row["partitions_done"] or 0,
        considered=row["considered"],
        added=row["added"],
        changed=row["changed"],
        removed=row["removed"],
        set_aside=row["set_aside"],
        size=row["size"],
        error=row["error"],
        detail=RunDetail(**loads(row["detail"] or "{}")),
        existing=row["existing"],
        past_day=row["past_day"],
        attempt=row["attempt"],
        restarts=row["restarts"],
        recoveries=row["recoveries"],
    )
