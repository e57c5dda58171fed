"""A run as a row of our state, and back."""

from dataclasses import asdict, replace
from datetime import date, datetime
from json import dumps, loads
from typing import Any
from uuid import uuid4

from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import Options, Run


def queued(
    job: str,
    trigger: str,
    who: str,
    as_of: AsOf,
    options: Options,
    now: datetime,
    parent: str | None,
) -> dict[str, Any]:
    """The row of a run that has just been asked for."""
    return {
        "id": str(uuid4()),
        "job": job,
        "trigger": trigger,
        "who": who,
        "parent": parent,
        "as_of": dumps(asdict(as_of), default=date.isoformat),
        "options": dumps(asdict(options)),
        "dry_run": options.dry_run,
        "state": "queued",
        "active_job": job,
        "again": False,
        "created_at": now,
        "partitions_done": 0,
    }


def run_of(row: dict[str, Any]) -> Run:
    """The run that a row tells of."""
    as_of = loads(row["as_of"])
    days = {name: date.fromisoformat(as_of[name]) for name in ("today", "first", "last")}
    names = Run.__dataclass_fields__
    run = Run(
        **{name: row[name] for name in names if name not in {"as_of", "options", "detail"}},
        as_of=AsOf(**days, every=as_of["every"]),
        options=Options(**loads(row["options"])),
        detail=loads(row["detail"] or "{}"),
    )
    return replace(run, partitions_done=run.partitions_done or 0)
