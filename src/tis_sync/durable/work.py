"""The steps that run in a process, and how a process that stops ends its workflows unfinished."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stopping(BaseException):
    """Raised when the process stops; the workflow is left unfinished."""


class Work:
    """The steps that run in this process, and whether it stops."""

    def __init__(self) -> None:
        self._stops = threading.Event()
        self._steps = 0
        self._changed = threading.Condition()

    def require(self) -> None:
        """Return if this process is not stopping.

        Raises:
            Stopping: this process stops.

        """
        if self._stops.is_set():
            raise Stopping

    @property
    def stops(self) -> bool:
        """Whether this process stops."""
        return self._stops.is_set()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: this process stops.

        """
        self._stops.wait(seconds)
        self.require()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count a step while it runs.

        Raises:
            Stopping: this process stops, so no further step begins.

        """
        with self._changed:
            self.require()
            self._steps += 1
        try:
            yield
        finally:
            with self._changed:
                self._steps -= 1
                self._changed.notify_all()

    def stop(self, wait_seconds: float) -> None:
        """Let no further step begin, and wait up to this long for those that run."""
        with self._changed:
            self._stops.set()
            self._changed.wait_for(lambda: not self._steps, wait_seconds)


# The work that the current thread belongs to; none outside workflows.
current_work: ContextVar[Work | None] = ContextVar("work", default=None)


def pause(seconds: float) -> None:
    """Wait within a step that waits for something.

    Raises:
        Stopping: this process stops; another one resumes the workflow.

    """
    work = current_work.get()
    if work is None:
        time.sleep(seconds)
    else:
        work.pause(seconds)
