"""Schemas that several API modules share: runs, pages of lists, common parameters."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Header, Query
from pydantic import BaseModel, ConfigDict

from tis_sync.runs.run import Run, RunState, Trigger
from tis_sync.web.dependencies import LONGEST_KEY

PAGE, LARGEST_PAGE = 50, 500

T = TypeVar("T")
Limit = Annotated[
    int, Query(ge=1, le=LARGEST_PAGE, description="The largest number of items to return.")
]
After = Annotated[str | None, Query(description="`next` of the previous page.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=LONGEST_KEY,
        description="A value that the caller creates for one request. Repeating the request with "
        "the same value starts nothing twice.",
        examples=["3f1c9a52-7a0e-4f3e-9d6d-0d2b4d1f6a11"],
    ),
]


class Page(BaseModel, Generic[T]):
    """A page of a list. `?after=` with `next` returns the next page; null: this is the last."""

    items: list[T]
    next: str | None = None


class RunDetails(BaseModel):
    """A run. Counts are null before they are known. Times are UTC."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b9d7f6e-41c5-4c39-8a1e-6c0f4b1d2a77",
                    "job": "PersonOwnerRebuildJob",
                    "state": "succeeded",
                    "trigger": "schedule",
                    "requested_by": "schedule",
                    "parent": None,
                    "created_at": "2026-07-31T00:05:00Z",
                    "started_at": "2026-07-31T00:05:00Z",
                    "finished_at": "2026-07-31T00:05:04Z",
                    "seconds": 4.1,
                    "phase": "apply",
                    "partitions": 2,
                    "partitions_done": 2,
                    "considered": 300000,
                    "added": 12,
                    "changed": 40,
                    "removed": 3,
                    "set_aside": 0,
                    "size": 300009,
                    "dry_run": False,
                    "error": None,
                }
            ]
        }
    )

    id: str
    job: str
    state: RunState
    trigger: Trigger
    requested_by: str
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


def run_details(run: Run) -> RunDetails:
    """Return a run as the API shows it."""
    return RunDetails(**asdict(run), seconds=run.seconds, dry_run=run.options.dry_run)
