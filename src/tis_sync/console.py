"""What people see on a terminal: tables, progress, and JSON where programs read."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tis_sync.runs.history import History
from tis_sync.runs.run import NIGHT, Run

PLAIN_WIDTH = 160  # of tables that go to a file or another program
out = Console(highlight=False, soft_wrap=True)
if not out.is_terminal:
    out = Console(highlight=False, soft_wrap=True, width=PLAIN_WIDTH)
FOLLOW_SECONDS = 0.3
STATE_STYLE = {"succeeded": "green", "failed": "red", "held": "yellow", "cancelled": "dim"}


def as_json(value: Any) -> None:
    """Print a value as JSON: data classes as objects, moments in ISO form."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str))


def plain(value: Any) -> Any:
    """A value as JSON has it: data classes as objects, with the seconds of runs."""
    if isinstance(value, Run):
        return {**asdict(value), "seconds": value.seconds}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    drawn = [[_cell(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(drawn) and all(
            row[index].replace(",", "").replace(".", "").isdigit() or row[index] in {"", "-"}
            for row in drawn
        )
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in drawn:
        made.add_row(*row)
    out.print(made)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


RUN_COLUMNS = ("job", "state", "rows considered", "added", "changed", "removed", "seconds")


def run_row(run: Run) -> tuple[Any, ...]:
    """A run, as `RUN_COLUMNS`."""
    style = STATE_STYLE.get(run.state, "")
    state = f"[{style}]{run.state}[/]" if style else run.state
    return (run.job, state, run.considered, run.added, run.changed, run.removed, run.seconds)


def runs_table(runs: Iterable[Run], title: str | None = None) -> None:
    """The table of jobs that ends a night."""
    table(title, RUN_COLUMNS, [run_row(run) for run in runs])


def follow(history: History, run_id: str) -> Run:
    """Show how a run, or a night, gets on, until it and all that follows it has ended.

    A live display on a terminal; elsewhere a line a phase.
    """
    if out.is_terminal:
        return _follow_live(history, run_id)
    said: set[tuple[str, str | None]] = set()

    def say(runs: list[Run]) -> None:
        for run in runs:
            what = run.phase if run.is_active else run.state
            if run.job == NIGHT or what is None or (run.id, what) in said:
                continue
            said.add((run.id, what))
            counts = (
                f" of {run.partitions} partition(s)" if run.partitions and run.is_active else ""
            )
            print(f"{run.job}: {what}{counts}", flush=True)

    return _follow(history, run_id, say)


def _follow_live(history: History, run_id: str) -> Run:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
        console=out,
        transient=True,
    ) as progress:
        tasks: dict[str, Any] = {}

        def draw(runs: list[Run]) -> None:
            for run in runs:
                if run.job == NIGHT or run.state == "queued":
                    continue
                if run.id not in tasks:
                    tasks[run.id] = progress.add_task(run.job, phase="")
                total = run.partitions or 1
                progress.update(
                    tasks[run.id],
                    total=total,
                    completed=min(run.partitions_done, total) if run.is_active else total,
                    phase=(run.phase or "") if run.is_active else run.state,
                )
                if not run.is_active:
                    progress.stop_task(tasks[run.id])

        return _follow(history, run_id, draw)


def _follow(history: History, run_id: str, show: Callable[[list[Run]], None]) -> Run:
    while True:
        family = history.family(run_id)
        show(family)
        if not any(run.is_active for run in family):
            return family[0]
        time.sleep(FOLLOW_SECONDS)


def error(message: str) -> None:
    """A line for people, on standard error."""
    print(f"tis-sync: {message}", file=sys.stderr)
