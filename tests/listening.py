"""Listen to a broker inside a test, and see what messages became."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import sqlalchemy as sa

from tests.brokers import eventually
from tests.conftest import TODAY
from tests.exporting import ended
from tests.running import working
from tis_sync.esr.broker import watch  # noqa: F401  schedulers listen, and watch
from tis_sync.esr.broker.listen import last_heard, listening
from tis_sync.esr.commands import Command
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.state import esr as t

ELSEWHERE = {
    "placementId": 900001, "positionId": 77, "positionNumber": 7, "postId": 55,
    "postNumber": "WES/RHM01/021/F2/003", "projectedHireDate": str(TODAY + timedelta(days=20)),
    "lastName": "Übermut", "firstName": "Ná", "dob": "1995-02-03", "gender": "Female",
    "title": "dr", "address": {"address1": "1 High\\Street", "postcode": "sw1a 1aa"},
    "professionalBodies": [{"body": "General Medical Council", "regNumber": "0123456"}],
}  # fmt: skip


@contextmanager
def listener(settings: Settings) -> Iterator[Services]:
    """A session that listens, and has been heard."""
    with working(settings) as s, listening(s):
        before = last_heard(s.state)
        eventually(lambda: last_heard(s.state) not in {None, before})
        yield s


def by_message(s: Services) -> list[Command]:
    """The commands that messages gave, ended."""
    with s.state.connect() as connection:
        statement = sa.select(t.command.c.id).where(t.command.c.trigger == "message")
        ids = list(connection.scalars(statement.order_by(t.command.c.created_at)))
    return ended(s, ids)


def taken(s: Services) -> int:
    with s.state.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(t.message)) or 0)
