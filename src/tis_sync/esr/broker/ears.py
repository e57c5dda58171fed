"""Whether each of our queues is heard: by what comes from it, and by pings that we send into it.

A queue that is deleted and made anew within a moment leaves RabbitMQ with a consumer that nothing
reaches; only a message that arrives shows that messages arrive.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

PING = "tis-sync.ping"  # type of a message that says nothing
PING_SECONDS = 60.0  # a ping that nobody has taken by then is gone
DEAF_SECONDS = 15.0  # without anything from a queue, although pings went into it


class Ears:
    """What was heard of each queue, in this process.

    Args:
        queues: their names.
        monotonic: a clock that only goes forward; seconds.

    """

    def __init__(self, queues: Collection[str], monotonic: Callable[[], float]) -> None:
        self._queues, self._monotonic = tuple(queues), monotonic
        self._pinged: dict[str, float] = {}  # the first ping since it was heard
        self._busy: Counter[str] = Counter()

    @contextmanager
    def hears(self, queue: str) -> Iterator[None]:
        """Something came from a queue; it is being worked on while the block lasts."""
        self._busy[queue] += 1
        try:
            yield
        finally:
            self._busy[queue] -= 1
            self._pinged.pop(queue, None)

    def pinged(self, queue: str) -> None:
        """The broker has taken a ping for a queue."""
        self._pinged.setdefault(queue, self._monotonic())

    def quiet(self) -> list[str]:
        """Queues of which nothing is being worked on: whether they are heard is not known."""
        return [name for name in self._queues if not self._busy[name]]

    def deaf(self) -> list[str]:
        """Quiet queues into which a ping went that should long have arrived."""
        since = self._monotonic() - DEAF_SECONDS
        return [name for name in self.quiet() if self._pinged.get(name, since) < since]
