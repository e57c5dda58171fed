"""The process of a command: who runs it, where it logs, and how it stops on a signal."""

import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tis_sync import logs
from tis_sync.audit import Actor, Channel
from tis_sync.settings import Settings, unknown_settings


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
    """End the process; call this once the session is closed and its work is back on the queues.

    A thread whose run waits for partitions that other workers have taken over never ends, and
    would keep the process alive. Nothing is lost: other workers also resume that run.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
