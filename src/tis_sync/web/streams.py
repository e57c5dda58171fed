"""Event streams end when their caller may no longer see them: signed out, revoked, other roles."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import TypeVar

from tis_sync.errors import TisSyncError
from tis_sync.web.auth.identity import Caller

CHECK_SECONDS = 5.0  # at least this often, the caller is looked up
NEW_SECONDS = 2.0  # how old the last look-up may be when an event is sent

T = TypeVar("T")


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
