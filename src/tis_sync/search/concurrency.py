"""The limit on bulk requests in flight: it falls when the server is overloaded, and rises again.

Additive increase, multiplicative decrease, as in TCP: a refused or slow request halves the limit; a
fast one raises it by a fraction, so that it grows by one per round of requests.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ConcurrencyLimiter:
    """A limit on requests in flight, shared by all threads that write to one server.

    Args:
        most: the highest limit, which also is the first.
        target_seconds: a request that takes longer is a sign of overload.
        clock: monotonic, in seconds.

    """

    def __init__(
        self, most: int, target_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.target_seconds = target_seconds
        self._clock = clock
        self._limit = float(most)
        self._in_flight = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight now; at least one."""
        return max(1, int(self._limit))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a free slot, and hold it while the block sends a request."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < self.limit)
            self._in_flight += 1
        started = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - started
            with self._changed:
                self._in_flight -= 1
                if seconds > self.target_seconds:
                    self._limit = max(1.0, self._limit / 2)
                else:
                    self._limit = min(float(self.most), self._limit + 1 / self._limit)
                self._changed.notify_all()

    def refused(self) -> None:
        """Halve the limit, because the server refused a request or some of its items."""
        with self._changed:
            self._limit = max(1.0, self._limit / 2)
