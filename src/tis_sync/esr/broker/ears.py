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
    """When each queue was heard last, in this process.

    Args:
        queues: their names.
        monotonic: a clock that only goes forward; seconds.

    """

    def __init__(self, queues: Collection[str], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard = dict.fromkeys(queues, monotonic())
        self._busy: Counter[str] = Counter()

    @contextmanager
    def hears(self, queue: str) -> Iterator[None]:
        """Something came from a queue; it is being worked on while the block lasts."""
        self._heard[queue] = self._monotonic()
        self._busy[queue] += 1
        try:
            yield
        finally:
            self._busy[queue] -= 1
            self._heard[queue] = self._monotonic()

    def silent(self, seconds: float = 0.0) -> list[str]:
        """Queues from which nothing came for so long, and nothing is being worked on."""
        since = self._monotonic() - seconds
        return [name for name, at in self._heard.items() if at <= since and not self._busy[name]]
