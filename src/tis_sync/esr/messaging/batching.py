"""Storing messages in batches, with retries while the state database is unreachable.

A flood of messages takes a few transactions instead of thousands: items that arrive during one
batch are stored together in the next. A message stays unacknowledged until it is stored, so if the
database is slow or down, no message is lost: the broker keeps it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from tis_sync.errors import TisSyncError
from tis_sync.logs import get, reason_of

REFUSED = (DataError, ProgrammingError)  # the database answers but refuses the data
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
LONGEST_REASON = 200  # characters of an error that are logged
Item = TypeVar("Item")
Result = TypeVar("Result")


class PoisonError(TisSyncError):
    """A message can never be used, however often it is delivered."""


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed, because the database was unreachable or busy."""
    if isinstance(error, TisSyncError):
        return error.transient
    return isinstance(error, DBAPIError | NoConnectionError) and not isinstance(error, REFUSED)


async def retried(act: Callable[[], Awaitable[Result]]) -> Result:
    """Call a function, and repeat it after a wait while the state database is unreachable.

    Args:
        act: the function; it can be repeated safely.

    Returns:
        What `act` returns.

    Raises:
        PoisonError: the database refuses the data.
        Exception: `act` failed with an error that is not transient.

    """
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return await act()
        except REFUSED as error:
            raise PoisonError(f"cannot be stored: {reason_of(error)}") from error
        except Exception as error:
            if not is_transient(error):
                raise
            reason = reason_of(error)[:LONGEST_REASON]
            get().warning("waiting for the state database", reason=reason, retry_in_seconds=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


class Batcher(Generic[Item, Result]):
    """Collects items while a batch is being handled, and handles them as the next batch.

    Args:
        handle: handles a whole batch or nothing, in a thread, and returns one result per item.
        limit: the maximum number of items in a batch.

    """

    def __init__(self, handle: Callable[[Sequence[Item]], Sequence[Result]], limit: int) -> None:
        self._handle, self._limit = handle, limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Handle an item in the next batch.

        Returns:
            The result of this item.

        Raises:
            Exception: what `handle` raised for its batch. If the database refuses the data, the
                items of the batch are handled one by one, and each has its own result or error.

        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._handle_all())
        return await future

    async def _handle_all(self) -> None:
        while self._waiting:
            batch = self._waiting[: self._limit]
            del self._waiting[: self._limit]
            try:
                await self._handle_batch(batch)
            except DBAPIError as error:
                # A single item may have spoiled the batch.
                if len(batch) == 1 or error.connection_invalidated:
                    _fail(batch, error)
                else:
                    for entry in batch:
                        await self._handle_single(entry)
            except Exception as error:  # noqa: BLE001  those who submitted the items raise it
                _fail(batch, error)

    async def _handle_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        results = await asyncio.to_thread(self._handle, [item for item, _ in batch])
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _handle_single(self, entry: tuple[Item, asyncio.Future[Result]]) -> None:
        try:
            await self._handle_batch([entry])
        except Exception as error:  # noqa: BLE001  whoever submitted the item raises it
            _fail([entry], error)


def _fail(batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
