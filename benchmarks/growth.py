"""Growth: memory, threads and rows of DBOS in one process that runs many nights.

Each night runs on a day of its own, after one percent of the people have changed, and is followed
by the daily retention. Reads /proc, so it needs Linux.

    python -m benchmarks.growth --nights 60 --people 3000 [--state URL] [--tcs URL] [--search URL]
"""

import argparse
import gc
import json
import re
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from tis_sync import logs, retention
from tis_sync.app import session
from tis_sync.db.database import Database
from tis_sync.demo.draw import Size
from tis_sync.demo.generate import generate
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.durable.tables import client
from tis_sync.execution.workflow import start_night
from tis_sync.runs.request import request_night
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

FIRST_NIGHT = datetime(2026, 3, 2, 0, 5, tzinfo=UTC)
PRINT_EVERY = 10  # nights
NIGHT_SECONDS = 300.0  # the longest that a night may take
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Figures:
    """What one process occupies after a night.

    Attributes:
        night: the number of the night, from 1.
        resident_mb: resident memory. In MB.
        threads: the threads of the process, of any library.
        workflows: the rows of DBOS's table of workflows.

    """

    night: int
    resident_mb: float
    threads: int
    workflows: int


def main() -> None:
    """Run the nights, print figures after each tenth, and all of them as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--people", type=int, default=3_000)
    parser.add_argument("--partition-keys", type=int, default=1_000)
    parser.add_argument("--workflow-days", type=int, default=0)
    parser.add_argument("--state", help="URL; default: embedded")
    parser.add_argument("--tcs", help="URL of an empty database; default: embedded")
    parser.add_argument("--search", help="URL; default: embedded")
    arguments = parser.parse_args()
    with TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home),
            state_url=arguments.state,
            tcs_url=arguments.tcs,
            search_url=arguments.search,
            partition_keys=arguments.partition_keys,
            workflow_days=arguments.workflow_days,
            night_start_hours=(0, 0),
            esr=False,
        )
        logs.configure(settings, level="ERROR")
        figures = measure(settings, arguments.nights, arguments.people)
    print(json.dumps([asdict(f) for f in figures]))


def measure(settings: Settings, nights: int, people: int) -> list[Figures]:
    """Run nights in this process, and measure it after each.

    Args:
        settings: the databases and the search engine, all empty.
        nights: how many.
        people: how many TCS contains.

    """
    now = FIRST_NIGHT
    figures = []
    with session(settings, scheduler=True, clock=lambda: now) as s:
        generate(s.tcs(), Size(people), now.date(), legacy_tables)
        for night in range(1, nights + 1):
            _change(s.tcs(), night)
            _run_night(s)
            retention.prune(s)
            gc.collect()
            figures.append(Figures(night, _resident_mb(), _threads(), _workflows(settings)))
            if night == 1 or night % PRINT_EVERY == 0:
                f = figures[-1]
                print(
                    f"night {f.night}: {f.resident_mb:.0f} MB, {f.threads} threads "
                    f"({threading.active_count()} of Python), {f.workflows} workflows",
                    flush=True,
                )
            now += timedelta(days=1)
    return figures


def _change(tcs: Database, night: int) -> None:
    """Change the forenames of one percent of the people, others each night."""
    columns = t.ContactDetails.c
    with tcs.write() as connection:
        connection.execute(
            sa.update(t.ContactDetails)
            .where(columns.id % 100 == night % 100)
            .values(forenames=f"Night {night}")
        )


def _run_night(s: Services) -> None:
    night = request_night(s, trigger=Trigger.MANUAL, requested_by="benchmark", options=RunOptions())
    start_night(s, night.id)
    deadline = time.monotonic() + NIGHT_SECONDS
    while any(run.is_active for run in s.history.family(night.id)):
        if time.monotonic() > deadline:
            raise SystemExit(f"The night of {s.clock():%Y-%m-%d} did not end.")
        time.sleep(POLL_SECONDS)
    ended = s.history.get(night.id)
    if ended.state != RunState.SUCCEEDED:
        raise SystemExit(f"The night of {s.clock():%Y-%m-%d} {ended.state}: {ended.error}")


def _resident_mb() -> float:
    return _status("VmRSS") / 1_000


def _threads() -> int:
    return _status("Threads")


def _status(field: str) -> int:
    """A number in /proc/self/status; memory is in kB."""
    found = re.search(rf"^{field}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _workflows(settings: Settings) -> int:
    """The number of workflows that DBOS keeps."""
    with client(settings) as dbos:
        return len(dbos.list_workflows(load_input=False, load_output=False))


if __name__ == "__main__":
    main()
