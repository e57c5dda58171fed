"""Terminal output: tables and progress for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tis_sync.alarms.catalogue import HELD
from tis_sync.alarms.store import Alarm
from tis_sync.cli.process import pause
from tis_sync.runs.history import History
from tis_sync.runs.run import NIGHT, Run, RunState
from tis_sync.runs.services import Services

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

PLAIN_WIDTH = 160  # characters; for a table written to a file or a pipe
FOLLOW_SECONDS = 0.3  # how often the progress of a run is read
STATE_STYLES = {
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.HELD: "yellow",
    RunState.CANCELLED: "dim",
}
RUN_COLUMNS = ("job", "state", "rows considered", "added", "changed", "removed", "seconds")

out = Console(highlight=False, soft_wrap=True)
if not out.is_terminal:
    out = Console(highlight=False, soft_wrap=True, width=PLAIN_WIDTH)
progress_out = Console(stderr=True, highlight=False)


def as_json(value: Any, *, sort_keys: bool = False) -> None:
    """Print a value as JSON."""
    options: dict[str, Any] = {"indent": 2, "ensure_ascii": False, "sort_keys": sort_keys}
    print(json.dumps(plain(value), default=str, **options))


def plain(value: Any) -> Any:
    """Convert a value to what JSON can represent.

    Dataclasses become objects (a run with its seconds, an alarm with the name of its kind), and
    times become ISO 8601 strings.
    """
    if isinstance(value, Run):
        return {**asdict(value), "seconds": value.seconds}
    if isinstance(value, Alarm):
        return {**asdict(value), "kind": value.kind.name}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; columns of numbers are aligned to the right."""
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    cells = [[_cell(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(
            row[index].replace(",", "").replace(".", "").isdigit() or row[index] in {"", "-"}
            for row in cells
        )
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        grid.add_row(*row)
    out.print(grid)


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


def error(message: str) -> None:
    """Print a line on standard error."""
    print(f"tis-sync: {message}", file=sys.stderr)


def runs_table(runs: Iterable[Run], title: str | None = None) -> None:
    """Print runs and what each wrote."""
    table(title, RUN_COLUMNS, [_run_row(run) for run in runs])


def _run_row(run: Run) -> tuple[Any, ...]:
    style = STATE_STYLES.get(run.state)
    state = f"[{style}]{run.state}[/]" if style else run.state
    return (run.job, state, run.considered, run.added, run.changed, run.removed, run.seconds)


def run_errors(runs: Iterable[Run]) -> None:
    """Print the error of each run that has one, and the remedy for a held run."""
    for run in runs:
        if run.state == RunState.HELD:
            error(f"{run.error} {HELD.remedy.format(subject=run.job)}")
        elif run.error:
            error(f"{run.job}: {run.error}")


def follow(s: Services, run_id: str, *, json: bool = False) -> Run:
    """Show the progress of a run, or of a night, until it and all its follow-ups have ended.

    On a terminal the display is live; in a file or a pipe it is one line for each phase.

    Args:
        s: the services of a command's session.
        run_id: the run.
        json: stdout is for JSON: show progress on stderr, and only if that is a terminal.

    Returns:
        The run as it ended.

    """
    s.awaited.add(run_id)
    console = progress_out if json else out
    if console.is_terminal:
        return _follow_live(s.history, run_id, console)
    return _follow(s.history, run_id, _nothing if json else _line_printer())


def _nothing(_: list[Run]) -> None:
    """Show no progress."""


def _line_printer() -> Callable[[list[Run]], None]:
    """Print a line for each phase that a run enters."""
    printed: set[tuple[str, str]] = set()

    def show(runs: list[Run]) -> None:
        for run in runs:
            stage = run.phase if run.is_active else run.state
            if run.job == NIGHT or stage is None or (run.id, stage) in printed:
                continue
            printed.add((run.id, stage))
            is_split = run.is_active and run.partitions
            partitions = f", partitions: {run.partitions}" if is_split else ""
            print(f"{run.job}: {stage}{partitions}", flush=True)

    return show


def _follow_live(history: History, run_id: str, console: Console) -> Run:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        tasks: dict[str, Any] = {}

        def show(runs: list[Run]) -> None:
            for run in runs:
                if run.job == NIGHT or run.state == RunState.QUEUED:
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

        return _follow(history, run_id, show)


def _follow(history: History, run_id: str, show: Callable[[list[Run]], None]) -> Run:
    while True:
        family = history.family(run_id)
        show(family)
        if not any(run.is_active for run in family):
            return family[0]
        pause(FOLLOW_SECONDS)
