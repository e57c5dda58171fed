"""What a run is: how it was asked for, and what the history knows of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tis_sync.jobs.base import AsOf

State = Literal["queued", "running", "held", "succeeded", "failed", "cancelled"]
ACTIVE = ("queued", "running")
NIGHT = "night"  # the name under which a whole night is recorded


@dataclass(frozen=True)
class Options:
    """How a run was asked for.

    Attributes:
        date: what `--date` said: YYYY-MM-DD, ANY, NONE, or None for the usual days.
        dry_run: plan and show, write nothing.
        rebuild: replace the whole table, or build the whole index.
        approve: let the plan through that the guard would hold.
        follow_ups: run the jobs that follow, if this one changed something.

    """

    date: str | None = None
    dry_run: bool = False
    rebuild: bool = False
    approve: bool = False
    follow_ups: bool = True


@dataclass(frozen=True)
class Run:
    """One run, or one night, as the history has it. Counts are None before they are known."""

    id: str
    job: str
    trigger: str
    who: str
    parent: str | None
    as_of: AsOf
    options: Options
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    phase: str | None
    partitions: int | None
    partitions_done: int
    considered: int | None
    added: int | None
    changed: int | None
    removed: int | None
    set_aside: int | None
    size: int | None
    error: str | None
    detail: dict[str, Any]

    @property
    def is_active(self) -> bool:
        """Still queued or running."""
        return self.state in ACTIVE

    @property
    def seconds(self) -> float | None:
        """How long it ran; None while it has not ended, or never began."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def wrote(self) -> int:
        """Records added, changed and removed, together; none where the plan was held.

        Of a dry run: as many as would have been.
        """
        if self.state == "held":
            return 0
        return (self.added or 0) + (self.changed or 0) + (self.removed or 0)


@dataclass(frozen=True)
class Line:
    """One line of a run's log."""

    id: int
    at: datetime
    level: str
    text: str
