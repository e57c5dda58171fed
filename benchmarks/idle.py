"""The idle cost: processor time of `tis-sync work` and `tis-sync serve` while nothing happens.

Both run on the embedded default, with synthetic data and after a night, so that nothing is left to
do. Reads /proc, so it needs Linux.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

COMMANDS = {"work": ("work",), "serve": ("serve", "--port", "0")}
PEOPLE = 2_000
SETTLE_SECONDS = 15.0  # for the start, and the first checks of the monitors
STOP_SECONDS = 60.0


def measure(seconds: float) -> dict[str, float]:
    """Measure both processes at the same time, each in a home of its own.

    Args:
        seconds: for how long.

    Returns:
        By command, the share of one core that it used.

    """
    with ExitStack() as stack:
        homes = {name: stack.enter_context(TemporaryDirectory()) for name in COMMANDS}
        for home in homes.values():
            _prepare(home)
        processes = {
            name: stack.enter_context(_running(COMMANDS[name], home))
            for name, home in homes.items()
        }
        time.sleep(SETTLE_SECONDS)
        before = {name: _processor_seconds(process.pid) for name, process in processes.items()}
        started = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - started
        used = {
            name: (_processor_seconds(process.pid) - before[name]) / elapsed
            for name, process in processes.items()
        }
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            process.wait(STOP_SECONDS)
    return used


def _prepare(home: str) -> None:
    command = [sys.executable, "-m", "tis_sync", "demo", "--people", str(PEOPLE)]
    subprocess.run(command, env=_environment(home), stdout=subprocess.DEVNULL, check=True)


def _running(arguments: tuple[str, ...], home: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tis_sync", *arguments],
        env=_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _environment(home: str) -> dict[str, str]:
    """The embedded default in that home, without the night that a start at night begins."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("TIS_SYNC_")}
    return {**kept, "TIS_SYNC_HOME": home, "TIS_SYNC_NIGHT_START_HOURS": "[0, 0]"}


def _processor_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads included."""
    # Fields 14 and 15, utime and stime; the name in parentheses before them may contain blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
