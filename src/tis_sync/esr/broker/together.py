"""Do together what comes together: a flood of messages is some transactions, not thousands."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Together(Generic[Item, Result]):
    """Items that come while the ones before are worked on are worked on in one call.

    Args:
        act: does it, in a thread: a result an item, all of it or nothing.
        limit: items of one call, at the most.

    """

    def __init__(self, act: Callable[[Sequence[Item]], Sequence[Result]], limit: int) -> None:
        self._act, self._limit = act, limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._work: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Result:
        """Do one item, with others; its own result, or error."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._all())
        return await future

    async def _all(self) -> None:
        while self._waiting:
            batch = self._waiting[: self._limit]
            del self._waiting[: self._limit]
            try:
                await self._some(batch)
            except DBAPIError as error:
                # One may be what the others suffer from; alone, each gets its own answer.
                if len(batch) == 1 or error.connection_invalidated:
                    _refuse(batch, error)
                else:
                    for one in batch:
                        await self._alone(one)
            except Exception as error:  # noqa: BLE001  it belongs to those who wait for it
                _refuse(batch, error)

    async def _some(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        results = await asyncio.to_thread(self._act, [item for item, _ in batch])
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _alone(self, one: tuple[Item, asyncio.Future[Result]]) -> None:
        try:
            await self._some([one])
        except Exception as error:  # noqa: BLE001  it belongs to who waits for it
            _refuse([one], error)


def _refuse(batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
