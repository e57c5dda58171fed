"""What becomes of a message: stored first, acknowledged then; what makes no sense is a dead letter.

While our state cannot be reached, messages are held unacknowledged and tried again after growing
waits: the broker keeps them, and nothing dies of a database that is slow or away.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import pydantic
from fast_depends.exceptions import ValidationError
from faststream.rabbit.message import RabbitMessage
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from tis_sync.errors import LockedError, StorageFullError, TisSyncError, UnreachableError
from tis_sync.esr import elsewhere
from tis_sync.esr.broker import letters
from tis_sync.esr.broker.messages import AppFileCommand, AppRecord, NotificationFileCommand
from tis_sync.esr.broker.together import Together
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, DNC, DNF, london_day
from tis_sync.esr.elsewhere import Told
from tis_sync.esr.sources import layout_of
from tis_sync.esr.workflows import start
from tis_sync.logs import get
from tis_sync.runs.services import Services

PASSING = (UnreachableError, StorageFullError, LockedError)
POISON = (DataError, ProgrammingError)  # of a database that answers, and does not take it
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
AT_ONCE = 200  # messages of a queue that are held at a time, and stored together
ID_LENGTH = 70
T = TypeVar("T")


class PoisonError(TisSyncError):
    """A message says something that makes no sense, now or later."""


def reason_of(error: BaseException) -> str:
    """Why a message makes no sense, in one line."""
    if isinstance(error, ValidationError):
        error = error.original_error
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in found['loc'][1:]) or 'message'}: {found['msg']}"
            for found in error.errors()
        )
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return f"not JSON: {error}"
    return " ".join(str(error).split())[:500] or type(error).__name__


async def stored(act: Callable[[], Awaitable[T]]) -> T:
    """Do what stores a message; while our state is away, wait and do it again.

    Raises:
        PoisonError: it will never work.

    """
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return await act()
        except POISON as error:
            raise PoisonError(f"cannot be stored: {' '.join(str(error.orig).split())}") from error
        except (*PASSING, DBAPIError, NoConnectionError) as error:
            get().warning("message waits", reason=" ".join(str(error).split())[:200], seconds=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


class Intake:
    """Takes messages; each method stores one, and may be called again with it."""

    def __init__(self, services: Services) -> None:
        self._s = services
        self._records = Together(self._take, AT_ONCE)

    async def record(self, record: AppRecord, message: RabbitMessage, queue: str) -> None:
        """Take a record from elsewhere.

        Raises:
            PoisonError: it cannot be stored.

        """
        deanery = message.headers.get("deanery")
        told = Told(_id(message), queue, record, None if deanery is None else str(deanery))
        became = await stored(partial(self._records.do, told))
        get().info("record taken", message=message.message_id, became=became)

    def _take(self, told: Sequence[Told]) -> list[str]:
        now = self._s.clock()
        return elsewhere.take(
            self._s.state,
            told,
            layout=layout_of(APP, self._s.settings),
            prefixes=self._s.settings.esr_deaneries,
            day=london_day(now),
            now=now,
        )

    async def command(self, command: AppFileCommand, message: RabbitMessage) -> None:
        """Take a command to export, and queue it.

        Raises:
            PoisonError: it is for a day to come.

        """
        await stored(partial(asyncio.to_thread, self._command, command, message))

    def _command(self, command: AppFileCommand, message: RabbitMessage) -> None:
        now = self._s.clock()
        sent = message.raw_message.timestamp or now
        today = london_day(now)
        day = command.day or min(london_day(sent), today)
        if day > today:
            raise PoisonError(f"date: {day} lies in the future; today is {today} (London)")
        file_type = APP
        if isinstance(command, NotificationFileCommand):
            file_type = DNF if command.full else DNC
        asked = Commands(self._s.state).ask(
            file_type=file_type,
            deanery=command.deanery,
            day=day,
            trigger="message",
            who=(message.raw_message.app_id or "?")[:200],
            now=now,
            new=command.new,
            key=f"message/{_id(message)}",
        )
        if asked.state == "queued":
            try:
                start([asked])
            except Exception as error:  # noqa: BLE001  it is stored: a worker's heartbeat queues it
                get().warning("command not yet queued", command=asked.id, reason=str(error)[:200])
        get().info("command taken", message=message.message_id, command=asked.id)

    async def letter(self, message: RabbitMessage) -> None:
        """Take a dead letter, and say so at once."""
        await stored(partial(asyncio.to_thread, self._letter, message))

    def _letter(self, message: RabbitMessage) -> None:
        letter = letters.take(self._s.state, message.raw_message, self._s.clock())
        if letter.retried_at is None:
            alarm(self._s, letter.queue, letter.reason, self._s.clock())

    def obituary(self, message: RabbitMessage, queue: str, reason: str) -> dict[str, str]:
        """The headers with which a message goes to the dead letters."""
        get().warning("dead letter", queue=queue, message=message.message_id, reason=reason)
        return letters.obituary(queue, reason, self._s.clock())


KIND = "dead letters"  # of alarm


def alarm(s: Services, queue: str, reason: str, now: datetime) -> None:
    """Say that messages died in a queue; once, until none waits any more."""
    s.alarms.raise_(
        KIND,
        queue,
        f"Messages to {queue} could not be used, the first since: {reason}. What they say is not "
        f"known to the export until they are. All, with their reasons: `tis-sync esr dead list`; "
        "when that is mended: `tis-sync esr dead retry --all`.",
        now,
    )


def _id(message: RabbitMessage) -> str:
    """The id of a message, by which it is taken only once.

    Raises:
        PoisonError: it has an id that is too long.

    """
    found = message.raw_message.message_id or message.correlation_id
    if len(found) > ID_LENGTH:
        raise PoisonError(f"message id of {len(found)} characters; {ID_LENGTH} are allowed")
    return found
