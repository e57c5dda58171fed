"""Live updates: each feed is read once per tick, however many viewers follow it.

A feed is one thing that viewers follow: a part of a page, or a run. While at least one viewer
follows it, one task reads it, and passes on what it has read when it differs from before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tis_sync.logs import get, reason_of

TICK_SECONDS = 0.5


@dataclass
class _Feed:
    read: Callable[[], Any]
    viewers: int = 0
    version: int = 0
    value: Any = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Feeds:
    """The feeds of one process.

    Args:
        seconds: time between two reads of a feed.

    """

    def __init__(self, seconds: float = TICK_SECONDS) -> None:
        self._seconds = seconds
        self._feeds: dict[str, _Feed] = {}
        self._stopping = False

    @property
    def viewers(self) -> int:
        """How many viewers follow something now."""
        return sum(feed.viewers for feed in self._feeds.values())

    def stop(self) -> None:
        """End all feeds, because the process is about to stop."""
        self._stopping = True
        for feed in self._feeds.values():
            feed.changed.set()

    async def follow(self, name: str, read: Callable[[], Any]) -> AsyncIterator[Any]:
        """Yield what `read` returns, now and whenever it has changed.

        Args:
            name: of the feed; viewers of the same name share one reading.
            read: called in a thread.

        """
        feed = self._feeds.setdefault(name, _Feed(read))
        feed.viewers += 1
        if feed.task is None:
            feed.task = asyncio.create_task(self._keep_reading(feed))
        seen = 0
        try:
            while not self._stopping:
                if feed.version > seen:
                    seen = feed.version
                    yield feed.value
                else:
                    await feed.changed.wait()
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                if feed.task is not None:
                    feed.task.cancel()
                self._feeds.pop(name, None)

    async def _keep_reading(self, feed: _Feed) -> None:
        failing = False
        while True:
            try:
                value = await asyncio.to_thread(feed.read)
            except Exception as error:  # noqa: BLE001  a server may be unreachable for a while
                if not failing:
                    get().warning("live updates failed", reason=reason_of(error)[:200])
                failing = True
            else:
                failing = False
                if not feed.version or value != feed.value:
                    feed.value, feed.version = value, feed.version + 1
                    feed.changed.set()
                    feed.changed = asyncio.Event()
            await asyncio.sleep(self._seconds)
