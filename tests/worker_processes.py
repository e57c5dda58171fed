"""Worker processes in a test: start them, kill, replace or suspend one, and end them all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tis_sync.settings.model import Settings

WORK = ("-m", "tis_sync", "work")
END_SECONDS = 60.0  # how long all of them together may take to end after SIGTERM

Worker = subprocess.Popen[bytes]


def environment(settings: Settings, **others: str) -> dict[str, str]:
    """The environment of a process with these databases, this search server and this clock.

    No night starts by itself.

    Args:
        settings: where the home, the databases and the search server are, and the clock's offset.
        others: more settings by name, as text; they take precedence.

    """
    values = {
        "home": str(settings.home),
        "tcs_url": settings.tcs(),
        "state_url": settings.state(),
        "search_url": settings.search(),
        "clock_offset_seconds": str(settings.clock_offset_seconds),
        "night_start_hours": "[0, 0]",
        **others,
    }
    return {**os.environ, **{f"TIS_SYNC_{name.upper()}": value for name, value in values.items()}}


class WorkerProcesses:
    """Several workers, each in a process of its own, that end when the block does.

    Args:
        variables: the environment of all of them; see `environment`.
        count: how many to start at once.
        program: what they execute: the arguments of Python.
        log: a file to which their output is appended. None: it is discarded.

    Attributes:
        processes: those that have been started and neither killed nor ended.

    """

    def __init__(
        self,
        variables: dict[str, str],
        count: int = 0,
        *,
        program: Sequence[str] = WORK,
        log: Path | None = None,
    ) -> None:
        self._variables = variables
        self._program = program
        self._log = log or Path(os.devnull)
        self.processes: list[Worker] = []
        for _ in range(count):
            self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def start(self, program: Sequence[str] | None = None, **settings: str) -> Worker:
        """Start one more.

        Args:
            program: what it executes. None: the same as the others.
            settings: its own settings by name, as text.

        """
        process = self._start(program or self._program, settings)
        self.processes.append(process)
        return process

    def kill(self, process: Worker) -> None:
        """Kill one (SIGKILL)."""
        process.kill()
        process.wait()
        self.processes.remove(process)

    def replace(self, process: Worker) -> None:
        """Kill one (SIGKILL), and start another in its place."""
        place = self.processes.index(process)
        self.kill(process)
        self.processes.insert(place, self._start(self._program, {}))

    def suspend(self, process: Worker) -> None:
        """Suspend one (SIGSTOP) until it is resumed."""
        process.send_signal(signal.SIGSTOP)

    def resume(self, process: Worker) -> None:
        """Let a suspended one continue (SIGCONT)."""
        process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Ask all to end (SIGTERM), and kill those that have not ended after `END_SECONDS`.

        Returns:
            How many were killed.

        """
        for process in self.processes:
            self.resume(process)
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        killed = 0
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
        self.processes.clear()
        return killed

    def _start(self, program: Sequence[str], settings: dict[str, str]) -> Worker:
        own = {f"TIS_SYNC_{name.upper()}": value for name, value in settings.items()}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *program],
                env={**self._variables, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
