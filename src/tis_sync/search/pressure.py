"""How many bulk requests may be under way: fewer when the server suffers, more when it does not.

Additive increase, multiplicative decrease, as TCP does it: a refused or slow request halves the
limit, a quick one raises it by a fraction, so that it grows by one a round.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pressure:
    """A limit on requests in flight, shared by all threads that write to one server.

    Args:
        most: the limit never exceeds this; it starts there.
        target_seconds: a request slower than this counts as a sign of overload.
        clock: seconds, monotonic.

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
        """Requests that may be under way now; at least one."""
        return max(1, int(self._limit))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one place among the requests under way; wait for one. Learns from the duration."""
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
        """The server refused a request, or a part of one: halve the limit."""
        with self._changed:
            self._limit = max(1.0, self._limit / 2)
