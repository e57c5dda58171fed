"""The process of a command: who runs it, where it logs, and how it stops on a signal."""

import getpass
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from tis_sync import logs
from tis_sync.audit import Actor, Channel
from tis_sync.settings.loading import unknown_settings
from tis_sync.settings.model import Settings

LEAVE_SECONDS = 1.0  # how long a process that ends waits for its threads


def actor() -> Actor:
    """The person who runs the command, for the history and the audit log."""
    try:
        name = getpass.getuser()
    except OSError:
        name = "unknown"
    return Actor(name, Channel.COMMAND_LINE)


def is_debug() -> bool:
    """Whether the program was started with `--debug`."""
    return "--debug" in sys.argv


def log_to_stdout(settings: Settings) -> None:
    """Log to stdout; for commands that run until they are stopped."""
    logs.configure(settings, level="DEBUG" if is_debug() else "INFO")
    for name, similar in unknown_settings().items():
        logs.get().warning("not a setting, ignored", name=name, similar=similar)


_interrupted = threading.Event()


def note_interrupts() -> None:
    """Raise KeyboardInterrupt on Control-C, as usual, and note it for `pause`.

    Python drops an exception that is raised while it finalizes an object, and Control-C with it.
    """

    def interrupt(*_: object) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def pause(seconds: float) -> None:
    """Wait between two looks at something.

    Raises:
        KeyboardInterrupt: somebody pressed Control-C, now or before.

    """
    time.sleep(seconds)
    if _interrupted.is_set():
        _interrupted.clear()
        raise KeyboardInterrupt


# A signal may reach another thread. Python handles it in the main thread, when that wakes up.
SIGNAL_SECONDS = 1.0


def wait_until(stop: threading.Event) -> None:
    """Wait until `stop_event` is set."""
    while not stop.wait(SIGNAL_SECONDS):
        pass


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT (Control-C) sets."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def exit_now() -> NoReturn:
    """End the process; call this once the session is closed and its work is back on the queues."""
    _end(0)


def leave(code: int) -> NoReturn:
    """End the process with this exit code, even if a thread of a run still works or waits.

    A thread whose run waits for partitions that other processes have taken over never ends, and
    would keep the process alive. Nothing is lost: other processes also resume that run.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _end(code)
    raise SystemExit(code)


def _end(code: int) -> NoReturn:
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
