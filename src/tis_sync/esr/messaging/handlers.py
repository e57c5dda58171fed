"""The handlers of messages: each message is stored first and acknowledged afterwards.

A message that can never be used becomes a dead letter. While the state database is unreachable,
messages stay unacknowledged (see `batching`).
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any, Protocol

import pydantic
from fast_depends.exceptions import ValidationError
from faststream.rabbit.message import RabbitMessage

from tis_sync import logs
from tis_sync.alarms import catalogue
from tis_sync.audit import Actor, Channel
from tis_sync.errors import TisSyncError, UnreachableError, UsageError
from tis_sync.esr.applicants import external_records
from tis_sync.esr.applicants.content import GDC, GMC
from tis_sync.esr.applicants.external_records import ExternalRecord
from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.messaging.batching import REFUSED, Batcher, PoisonError, is_transient, retried
from tis_sync.esr.messaging.contract import (
    AppFileCommand,
    AppRecord,
    NotificationFileCommand,
    ProfessionalBody,
)
from tis_sync.logs import get
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services

BATCH = 200  # messages of a queue that are taken at a time and stored together
MESSAGE_ID_LENGTH = 70  # characters
LONGEST_REASON = 500  # characters of an unexpected error that become the reason of a dead letter
APP_ID_LENGTH = 200  # characters of a sender's name that the history can store
UNKNOWN_SENDER = "?"
# Errors in the message itself; any other error is a bug of ours, and its traceback is logged.
UNUSABLE = (
    TisSyncError, ValidationError, pydantic.ValidationError, json.JSONDecodeError,
    UnicodeDecodeError,
)  # fmt: skip


class Export(Protocol):
    """Requests the files of a day: `actions.export`, bound to the services."""

    def __call__(
        self,
        actor: Actor,
        deaneries: Sequence[str],
        file_type: FileType,
        day: date | None = None,
        *,
        new: bool = False,
        key: str | None = None,
        trigger: Trigger = Trigger.MANUAL,
    ) -> object:
        """Request files; if an actor repeats a key, the first commands are returned."""


def reason_of(error: BaseException) -> str:
    """Return why a message can never be used, in one line."""
    if isinstance(error, ValidationError):
        error = error.original_error
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'][1:]) or 'message'}: {problem['msg']}"
            for problem in error.errors()
        )
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return f"not JSON: {error}"
    return logs.reason_of(error)[:LONGEST_REASON] or type(error).__name__


class Handlers:
    """Stores messages. Each method stores one message, and can be called with it again.

    Args:
        services: settings, clock and servers.
        export: carries out export commands.

    """

    def __init__(self, services: Services, export: Export) -> None:
        self._s = services
        self._export = export
        self._records = Batcher(self._store_records, BATCH)

    async def record(self, record: AppRecord, message: RabbitMessage, queue: str) -> None:
        """Store a record that another system derived.

        Args:
            record: the content of the message.
            message: the message.
            queue: the queue that it comes from.

        Raises:
            PoisonError: the record can never be stored.

        """
        header = message.headers.get("deanery")
        deanery = None if header is None else str(header)
        external = _external_record(record, _id_of(message), queue, deanery)
        result = await retried(partial(self._records.submit, external))
        get().info("record received", message=message.message_id, result=str(result))

    def _store_records(self, records: Sequence[ExternalRecord]) -> list[str]:
        now = self._s.clock()
        return external_records.store_external_records(
            self._s.state,
            records,
            layout=layout_of(FileType.APP, self._s.settings),
            prefixes=self._s.settings.esr_deaneries,
            day=london_day(now),
            now=now,
        )

    async def command(self, command: AppFileCommand, message: RabbitMessage) -> None:
        """Request the export that a message asks for, once, however often it is delivered.

        Args:
            command: the content of the message.
            message: the message.

        Raises:
            PoisonError: the command can never be carried out, for example because its day is in
                the future.

        """
        await retried(partial(asyncio.to_thread, self._request_export, command, message))

    def _request_export(self, command: AppFileCommand, message: RabbitMessage) -> None:
        message_id = _id_of(message)
        sent_at = message.raw_message.timestamp
        day = command.day
        if day is None and sent_at is not None:
            sent_day = london_day(sent_at)
            # A sender whose clock is ahead means today.
            day = sent_day if sent_day < london_day(self._s.clock()) else None
        file_type = FileType.APP
        if isinstance(command, NotificationFileCommand):
            file_type = FileType.DNF if command.full else FileType.DNC
        sender = (message.raw_message.app_id or UNKNOWN_SENDER)[:APP_ID_LENGTH]
        try:
            self._export(
                Actor(sender, Channel.MESSAGE),
                (command.deanery,),
                file_type,
                day,
                new=command.new,
                key=message_id,
                trigger=Trigger.MESSAGE,
            )
        except UsageError as error:
            raise PoisonError(str(error)) from error
        except Exception as error:
            if isinstance(error, REFUSED) or is_transient(error):
                raise
            # The command may already be stored, for example if only queueing it failed. A stored
            # command must not become a dead letter.
            get().error("export not requested", message=message.message_id, exc_info=error)
            raise UnreachableError(f"the export was not requested: {reason_of(error)}") from error
        get().info("command received", message=message.message_id, deanery=command.deanery)

    async def dead_letter(self, message: RabbitMessage) -> None:
        """Store a dead letter, and open its alarm."""
        await retried(partial(asyncio.to_thread, self._store_dead_letter, message))

    def _store_dead_letter(self, message: RabbitMessage) -> None:
        now = self._s.clock()
        letter = dead_letters.store(self._s.state, message.raw_message, now)
        if letter.retried_at is None:
            details = dead_letters.alarm_details(letter.queue, letter.reason)
            self._s.alarms.open(catalogue.DEAD_LETTERS, letter.queue, details, now)

    def dead_letter_headers(
        self, message: RabbitMessage, queue: str, error: Exception
    ) -> dict[str, Any]:
        """Return the headers with which a message is published as a dead letter.

        Args:
            message: the message.
            queue: the queue that it comes from.
            error: why it can never be used.

        """
        reason = reason_of(error)
        traceback = None if isinstance(error, UNUSABLE) else error
        get().error(
            "dead letter",
            queue=queue,
            message=message.message_id,
            reason=reason,
            exc_info=traceback,
        )
        added = dead_letters.headers(queue, reason, self._s.clock())
        return {**message.raw_message.headers, **added}


def _external_record(
    record: AppRecord, message_id: str, queue: str, header_deanery: str | None
) -> ExternalRecord:
    """Convert the content of a message to a record; the header supplies a missing deanery."""
    nested = {"address", "professional_bodies", "contact_person", "deanery"}
    bodies: dict[str, ProfessionalBody] = {b.body: b for b in record.professional_bodies}
    gmc, gdc = bodies.get(GMC), bodies.get(GDC)
    return ExternalRecord(
        message_id=message_id,
        queue=queue,
        deanery=record.deanery or header_deanery,
        gmc_number=None if gmc is None else gmc.reg_number,
        gmc_expiry_date=None if gmc is None else gmc.expiry_date,
        gdc_number=None if gdc is None else gdc.reg_number,
        gdc_expiry_date=None if gdc is None else gdc.expiry_date,
        contact_person_name=record.contact_person.name,
        contact_person_tel=record.contact_person.tel,
        **record.address.model_dump(),
        **record.model_dump(exclude=nested),
    )


def _id_of(message: RabbitMessage) -> str:
    """Return the id of a message; a second message with the same id changes nothing.

    Raises:
        PoisonError: the id is too long.

    """
    message_id = message.raw_message.message_id or message.correlation_id
    if len(message_id) > MESSAGE_ID_LENGTH:
        raise PoisonError(
            f"the message id has {len(message_id)} characters; at most {MESSAGE_ID_LENGTH} are "
            "allowed"
        )
    return message_id
