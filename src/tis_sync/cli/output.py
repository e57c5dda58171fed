"""Terminal output: tables and progress for people, JSON for programs.

This is the only module that prints. What it prints may come from TCS, so text is never read as
markup, and control characters are shown as escapes.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tis_sync.alarms.catalogue import HELD
from tis_sync.alarms.store import Alarm
from tis_sync.cli.process import pause
from tis_sync.runs.history import History
from tis_sync.runs.run import NIGHT, Run, RunState
from tis_sync.runs.services import Services
from tis_sync.text import printable

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


def _console(**options: Any) -> Console:
    return Console(highlight=False, markup=False, emoji=False, **options)


_out = _console(soft_wrap=True)
if not _out.is_terminal:
    _out = _console(soft_wrap=True, width=PLAIN_WIDTH)
_progress_out = _console(stderr=True)
# JSON escapes the control characters of ASCII; a terminal obeys some others too.
_NOT_ASCII = re.compile(r"[\x7f-\uffff\U00010000-\U0010ffff]")


def as_json(value: Any, *, sort_keys: bool = False) -> None:
    """Print a value as JSON."""
    options: dict[str, Any] = {"indent": 2, "ensure_ascii": False, "sort_keys": sort_keys}
    text = json.dumps(plain(value), default=str, **options)
    print(_NOT_ASCII.sub(_json_escape, text))


def _json_escape(match: re.Match[str]) -> str:
    """A character of a JSON text; as an escape of JSON if a terminal would obey it."""
    character = match[0]
    return character if printable(character) == character else json.dumps(character)[1:-1]


def print_line(text: str = "", style: str | None = None) -> None:
    """Print a line.

    Args:
        text: the line; not markup.
        style: how Rich shows it: "bold", "red".

    """
    _out.print(Text(printable(text), style or ""))


def styled(text: str, style: str | None) -> Text:
    """Return the value of a cell that is shown in a style."""
    return Text(printable(text), style or "")


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
            row[index].plain.replace(",", "").replace(".", "").isdigit()
            or row[index].plain in {"", "-"}
            for row in cells
        )
        grid.add_column(printable(column), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        grid.add_row(*row)
    _out.print(grid)


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(printable(_cell_text(value)))


def _cell_text(value: Any) -> str:
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
    print(f"tis-sync: {printable(message)}", file=sys.stderr)


def runs_table(runs: Iterable[Run], title: str | None = None) -> None:
    """Print runs and what each wrote."""
    table(title, RUN_COLUMNS, [_run_row(run) for run in runs])


def _run_row(run: Run) -> tuple[Any, ...]:
    style = STATE_STYLES.get(run.state)
    return (
        run.job,
        styled(run.state, style),
        run.considered,
        run.added,
        run.changed,
        run.removed,
        run.seconds,
    )


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
    console = _progress_out if json else _out
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[phase]}", markup=False),
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
