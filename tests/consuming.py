"""Consume messages inside a test, and inspect the outcome."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import sqlalchemy as sa

from tests.conftest import TODAY
from tests.exporting import wait_until_ended
from tests.running import working
from tests.waiting import eventually
from tis_sync import app
from tis_sync.esr.export.commands import Command
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t

EXTERNAL_RECORD = {
    "placementId": 900001, "positionId": 77, "positionNumber": 7, "postId": 55,
    "postNumber": "WES/RHM01/021/F2/003", "projectedHireDate": str(TODAY + timedelta(days=20)),
    "lastName": "Übermut", "firstName": "Ná", "dob": "1995-02-03", "gender": "Female",
    "title": "dr", "address": {"address1": "1 High\\Street", "postcode": "sw1a 1aa"},
    "professionalBodies": [{"body": "General Medical Council", "regNumber": "0123456"}],
}  # fmt: skip


def consuming(s: Services) -> AbstractContextManager[None]:
    """Consume messages while the block lasts, as a worker does."""
    return app.consume(s)


@contextmanager
def consumer(settings: Settings) -> Iterator[Services]:
    """A session whose consumer has reached the broker."""
    with working(settings) as s, consuming(s):
        before = last_contact(s.state)
        eventually(lambda: last_contact(s.state) not in {None, before})
        yield s


def age(s: Services, by: timedelta) -> None:
    """Make the last contact, and the unsent events, that much older."""
    with s.state.write() as connection:
        for column in (t.last_contact.c.at, t.outbox.c.created_at):
            for at in set(connection.scalars(sa.select(column))):
                older = sa.update(column.table).where(column == at)
                connection.execute(older.values({column.name: at - by}))


def commands_by_message(s: Services) -> list[Command]:
    """Wait until the commands that messages requested have ended, and return them."""
    with s.state.read() as connection:
        statement = sa.select(t.command.c.id).where(t.command.c.trigger == Trigger.MESSAGE)
        ids = list(connection.scalars(statement.order_by(t.command.c.created_at)))
    return wait_until_ended(s, ids)


def received(s: Services) -> int:
    """How many messages with records have been stored."""
    with s.state.read() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(t.message)) or 0)
