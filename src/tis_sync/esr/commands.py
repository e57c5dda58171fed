"""Commands to export: asked for once by their idempotency key, and what became of each."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.errors import NotFoundError, UsageError
from tis_sync.state import esr as t

State = Literal["queued", "running", "done", "dead"]


@dataclass(frozen=True)
class Command:
    """One command: make, or send again, the file of a deanery's day.

    Attributes:
        id: its id.
        key: idempotency key: a second command of the same key is the first.
        file_type: APP, DNC or DNF.
        deanery: whose file.
        day: the day that the file is for, Europe/London.
        new: take a new number even if the day has its file.
        trigger: "schedule", "manual", "message" or "catch-up".
        who: the person, or the process.
        state: queued, running, done; dead: it failed for good, and waits for a person.
        attempts: how often it was tried.
        error: why the last attempt failed.
        file: the name of its file, once that is decided.

    """

    id: str
    key: str
    file_type: str
    deanery: str
    day: date
    new: bool
    trigger: str
    who: str
    state: State
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    file: str | None

    @property
    def workflow_id(self) -> str:
        """The id of its workflow; another one after it was dead and is tried again."""
        return f"esr-{self.id}-{self.attempts}"


class Commands:
    """The commands in a state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def ask(
        self,
        *,
        file_type: str,
        deanery: str,
        day: date,
        trigger: str,
        who: str,
        now: datetime,
        new: bool = False,
        key: str | None = None,
    ) -> Command:
        """Record that a command was given; one of the same key is returned instead.

        Args:
            file_type: APP, DNC or DNF.
            deanery: whose file.
            day: the day that the file is for.
            trigger: what gave the command.
            who: the person, or the process.
            now: the present moment.
            new: take a new number even if the day has its file.
            key: idempotency key; None: this command is none that was given before.

        """
        command_id = str(uuid4())
        values = {
            "id": command_id,
            "key": key or command_id,
            "file_type": file_type,
            "deanery": deanery,
            "day": day,
            "new": new,
            "trigger": trigger,
            "who": who,
            "state": "queued",
            "attempts": 0,
            "created_at": now,
        }
        try:
            with self._write() as connection:
                connection.execute(sa.insert(t.command).values(values))
        except IntegrityError:
            found = self._all(sa.select(t.command).where(t.command.c.key == key))
            return found[0]
        return self.get(command_id)

    def get(self, command_id: str) -> Command:
        """A command by its id, or by the beginning of it.

        Raises:
            UsageError: no command, or several, begin so.

        """
        named = t.command.c.id.startswith(command_id, autoescape=True)
        found = self._all(sa.select(t.command).where(named).limit(2))
        if len(found) != 1:
            many = "Several commands begin" if found else "No command begins"
            kind = UsageError if found else NotFoundError
            raise kind(f"{many} with {command_id!r}; see `tis-sync esr dead list`.")
        return found[0]

    def begin(self, command_id: str, now: datetime) -> None:
        """An attempt begins."""
        with self._write() as connection:
            connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command_id, t.command.c.state != "done")
                .values(
                    state="running",
                    attempts=t.command.c.attempts + 1,
                    started_at=sa.func.coalesce(
                        t.command.c.started_at, sa.literal(now, t.command.c.started_at.type)
                    ),
                )
            )

    def note(self, command_id: str, **values: str | None) -> None:
        """Record `file` or `error`."""
        with self._write() as connection:
            connection.execute(
                sa.update(t.command).where(t.command.c.id == command_id).values(**values)
            )

    def end(self, command_id: str, state: State, now: datetime, error: str | None = None) -> None:
        """The command is done, or dead."""
        with self._write() as connection:
            connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command_id)
                .values(state=state, finished_at=now, error=error)
            )

    def revive(self, command_id: str) -> Command:
        """Queue a dead command again.

        Raises:
            UsageError: it is not dead.

        """
        command = self.get(command_id)
        with self._write() as connection:
            changed = connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command.id, t.command.c.state == "dead")
                .values(state="queued", finished_at=None)
            ).rowcount
        if not changed:
            raise UsageError(f"Command {command.id[:8]} is {command.state}, not dead.")
        return self.get(command.id)

    def with_key(self, keys: list[str]) -> list[Command]:
        """The commands of these keys."""
        return self._all(sa.select(t.command).where(t.command.c.key.in_(keys)))

    def in_state(self, *states: State) -> list[Command]:
        """The commands in any of these states, oldest first."""
        statement = sa.select(t.command).where(t.command.c.state.in_(states))
        return self._all(statement.order_by(t.command.c.created_at, t.command.c.id))

    def recent(
        self, limit: int, state: State | None = None, after: str | None = None
    ) -> list[Command]:
        """Commands, newest first; in a state, and behind the one of id `after`, where given."""
        created, ids = t.command.c.created_at, t.command.c.id
        statement = sa.select(t.command).order_by(created.desc(), ids).limit(limit)
        if state is not None:
            statement = statement.where(t.command.c.state == state)
        if after is not None:
            made = sa.select(created).where(ids == after).scalar_subquery()
            statement = statement.where(
                sa.or_(created < made, sa.and_(created == made, ids > after))
            )
        return self._all(statement)

    def many(self, ids: list[str]) -> list[Command]:
        """Commands by their ids, in that order."""
        found = {c.id: c for c in self._all(sa.select(t.command).where(t.command.c.id.in_(ids)))}
        return [found[command_id] for command_id in ids]

    def _write(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.execution_options(writes=True).begin()

    def _all(self, statement: sa.Select[tuple[object, ...]]) -> list[Command]:
        with self._engine.connect() as connection:
            return [Command(**row) for row in connection.execute(statement).mappings()]
