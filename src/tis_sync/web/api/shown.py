"""What the API shows of runs and jobs, and how lists are cut into pages."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Header, Query
from pydantic import BaseModel, ConfigDict

from tis_sync.runs.run import Run

PAGE, LARGEST_PAGE = 50, 500
LONGEST_KEY = 200

T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at the most.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=LONGEST_KEY,
        description="Made by the caller for one request: sent again with it, nothing starts twice.",
        examples=["3f1c9a52-7a0e-4f3e-9d6d-0d2b4d1f6a11"],
    ),
]


class Page(BaseModel, Generic[T]):
    """A page of a list; `next` asks for the one behind it (`?after=`), null at the end."""

    items: list[T]
    next: str | None = None


class RunShown(BaseModel):
    """A run. Counts are null before they are known; moments are UTC."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b9d7f6e-41c5-4c39-8a1e-6c0f4b1d2a77", "job": "PersonOwnerRebuildJob",
                    "state": "succeeded", "trigger": "schedule", "who": "schedule", "parent": None,
                    "created_at": "2026-07-31T00:05:00Z", "started_at": "2026-07-31T00:05:00Z",
                    "finished_at": "2026-07-31T00:05:04Z", "seconds": 4.1, "phase": "apply",
                    "partitions": 2, "partitions_done": 2, "considered": 300000, "added": 12,
                    "changed": 40, "removed": 3, "set_aside": 0, "size": 300009, "dry_run": False,
                    "error": None,
                }
            ]
        }
    )  # fmt: skip

    id: str
    job: str
    state: str
    trigger: str
    who: str
    parent: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    phase: str | None
    partitions: int | None
    partitions_done: int
    considered: int | None
    added: int | None
    changed: int | None
    removed: int | None
    set_aside: int | None
    size: int | None
    dry_run: bool
    error: str | None


class PlanShown(BaseModel):
    """What a dry run would write: counts, and the first rows of each kind."""

    run: RunShown
    added: int | None
    changed: int | None
    removed: int | None
    rows: dict[str, list[dict[str, Any]]]


def shown(run: Run) -> RunShown:
    """A run as the API tells it."""
    return RunShown(**asdict(run), seconds=run.seconds, dry_run=run.options.dry_run)
