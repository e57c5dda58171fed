"""Live updates: each feed is read once per tick, however many viewers follow it.

A feed is one thing that viewers follow: a part of a page, or a run. While at least one viewer
follows it, one task reads it, and passes on what it has read when it differs from before. A viewer
who signs out, is revoked, or gets other roles no longer sees it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from tis_sync.errors import TisSyncError
from tis_sync.logs import get, reason_of
from tis_sync.web.auth.identity import Caller

TICK_SECONDS = 0.5
CHECK_SECONDS = 5.0  # at least this often, the caller is looked up
NEW_SECONDS = 2.0  # how old the last look-up may be when an event is sent

T = TypeVar("T")


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


async def while_allowed(
    events: AsyncIterator[T], caller: Callable[[], Awaitable[Caller]], *, user: Caller
) -> AsyncIterator[T]:
    """Yield events, as long as the caller is the same person with the same roles.

    Args:
        events: what is sent.
        caller: looks the caller up, as for a new request.
        user: the caller when the stream began.

    """
    checked_at = monotonic()
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            await asyncio.wait({coming}, timeout=CHECK_SECONDS)
            if monotonic() - checked_at >= NEW_SECONDS:
                if not await _is_still(user, caller):
                    return
                checked_at = monotonic()
            if not coming.done():
                continue
            event = coming.result()
            if event is None:
                return
            yield event
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def _is_still(user: Caller, caller: Callable[[], Awaitable[Caller]]) -> bool:
    try:
        return await caller() == user
    except TisSyncError:
        return False
