"""Export commands: each is requested once, thanks to its idempotency key, and has a state."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.runs.run import Trigger
from tis_sync.state import esr_tables as t


class CommandState(StrEnum):
    """The state of a command."""

    QUEUED = "queued"  # requested; no worker has begun it
    RUNNING = "running"  # also while it waits for its next attempt
    DONE = "done"
    DEAD = "dead"  # it failed permanently; someone must retry it


@dataclass(frozen=True)
class Command:
    """One command: write a deanery's file for a day, or send it again.

    Attributes:
        id: unique.
        key: idempotency key; requests with the same key are one command.
        file_type: the type of the file.
        deanery: the code of the deanery.
        day: the day that the file is for, Europe/London.
        new: take a new number even if the day already has a file.
        trigger: what requested it.
        requested_by: the person or the process.
        state: its state.
        attempts: the number of attempts so far.
        created_at, started_at, finished_at: UTC.
        error: why the last attempt failed.
        file: the name of its file, once that is decided.

    """

    id: str
    key: str
    file_type: FileType
    deanery: str
    day: date
    new: bool
    trigger: Trigger
    requested_by: str
    state: CommandState
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    file: str | None

    @property
    def workflow_id(self) -> str:
        """The id of its workflow; a retry of a dead command has a new one."""
        return f"{workflow_prefix(self.id)}{self.attempts}"


def workflow_prefix(command_id: str) -> str:
    """How the ids of all workflows of a command begin."""
    return f"esr-{command_id}-"


class Commands:
    """The commands in a state database."""

    def __init__(self, state: Database) -> None:
        self._state = state

    def request(
        self,
        *,
        file_type: FileType,
        deanery: str,
        day: date,
        trigger: Trigger,
        requested_by: str,
        now: datetime,
        new: bool = False,
        key: str | None = None,
    ) -> Command:
        """Record a command, or return the one that has the same key.

        Args:
            file_type: APP, DNC or DNF.
            deanery: the code of the deanery.
            day: the day that the file is for.
            trigger: what requests it.
            requested_by: the person or the process.
            now: the current time.
            new: take a new number even if the day already has a file.
            key: idempotency key. None: always a new command.

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
            "requested_by": requested_by,
            "state": CommandState.QUEUED,
            "attempts": 0,
            "created_at": now,
        }
        try:
            with self._state.write() as connection:
                connection.execute(sa.insert(t.command).values(values))
        except IntegrityError:
            return self._all(sa.select(t.command).where(t.command.c.key == key))[0]
        return self.get(command_id)

    def get(self, command_id: str) -> Command:
        """Find a command by its id, or by a unique prefix of it.

        Raises:
            NotFoundError: no id begins with it.
            UsageError: several ids begin with it.

        """
        matches = t.command.c.id.startswith(command_id, autoescape=True)
        commands = self._all(sa.select(t.command).where(matches).limit(2))
        if not commands:
            raise NotFoundError(
                f"No command has an id that begins with {command_id!r}; `tis-sync esr dead list` "
                "lists dead commands."
            )
        if len(commands) > 1:
            raise UsageError(f"Several commands have ids that begin with {command_id!r}.")
        return commands[0]

    def begin(self, command_id: str, now: datetime) -> None:
        """Record that an attempt begins."""
        first = sa.func.coalesce(
            t.command.c.started_at, sa.literal(now, t.command.c.started_at.type)
        )
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command_id, t.command.c.state != CommandState.DONE)
                .values(
                    state=CommandState.RUNNING,
                    attempts=t.command.c.attempts + 1,
                    started_at=first,
                )
            )

    def note(self, command_id: str, **values: str | None) -> None:
        """Record the file of a command, or the error of an attempt."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.command).where(t.command.c.id == command_id).values(**values)
            )

    def end(
        self, command_id: str, state: CommandState, now: datetime, error: str | None = None
    ) -> None:
        """Record that the command is done or dead."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command_id)
                .values(state=state, finished_at=now, error=error)
            )

    def revive(self, command_id: str) -> Command:
        """Queue a dead command again.

        Raises:
            NotFoundError, UsageError: there is no such command, or it is not dead.

        """
        command = self.get(command_id)
        with self._state.write() as connection:
            changed = connection.execute(
                sa.update(t.command)
                .where(t.command.c.id == command.id, t.command.c.state == CommandState.DEAD)
                .values(state=CommandState.QUEUED, finished_at=None)
            ).rowcount
        if not changed:
            raise UsageError(f"Command {command.id[:8]} is {command.state}, not dead.")
        return self.get(command.id)

    def begin_again(self, command: Command) -> Command | None:
        """Queue a command with a new workflow; None if that, or its end, has happened already."""
        own = t.command.c
        with self._state.write() as connection:
            queued = connection.execute(
                sa.update(t.command)
                .where(own.id == command.id, own.attempts == command.attempts)
                .where(own.state.in_((CommandState.QUEUED, CommandState.RUNNING)))
                .values(state=CommandState.QUEUED, attempts=own.attempts + 1)
            )
        return self.get(command.id) if queued.rowcount else None

    def with_key(self, keys: Sequence[str]) -> list[Command]:
        """The commands with these keys."""
        return self._all(sa.select(t.command).where(t.command.c.key.in_(keys)))

    def in_state(self, *states: CommandState) -> list[Command]:
        """The commands in any of these states, oldest first."""
        statement = sa.select(t.command).where(t.command.c.state.in_(states))
        return self._all(statement.order_by(t.command.c.created_at, t.command.c.id))

    def recent(
        self, limit: int, state: CommandState | None = None, after: str | None = None
    ) -> list[Command]:
        """Return commands, newest first.

        Args:
            limit: the maximum number.
            state: only commands in this state.
            after: only commands after the one with this id.

        """
        created, ids = t.command.c.created_at, t.command.c.id
        statement = sa.select(t.command).order_by(created.desc(), ids).limit(limit)
        if state is not None:
            statement = statement.where(t.command.c.state == state)
        if after is not None:
            moment = sa.select(created).where(ids == after).scalar_subquery()
            same_moment = sa.and_(created == moment, ids > after)
            statement = statement.where(sa.or_(created < moment, same_moment))
        return self._all(statement)

    def many(self, ids: Sequence[str]) -> list[Command]:
        """Commands by their ids, in that order."""
        commands = self._all(sa.select(t.command).where(t.command.c.id.in_(ids)))
        by_id = {command.id: command for command in commands}
        return [by_id[command_id] for command_id in ids]

    def prune(self, now: datetime, days: int) -> int:
        """Delete commands that were done more than this many days ago; return their number.

        Dead commands stay, because somebody has to retry them.
        """
        oldest = sa.literal(now - timedelta(days=days), t.command.c.finished_at.type)
        old = sa.and_(t.command.c.finished_at < oldest, t.command.c.state == CommandState.DONE)
        with self._state.write() as connection:
            return int(connection.execute(sa.delete(t.command).where(old)).rowcount)

    def _all(self, statement: sa.Select[tuple[object, ...]]) -> list[Command]:
        with self._state.read() as connection:
            return [_command(row) for row in connection.execute(statement).mappings()]


def _command(row: sa.RowMapping) -> Command:
    enums = {
        "file_type": FileType(row["file_type"]),
        "trigger": Trigger(row["trigger"]),
        "state": CommandState(row["state"]),
    }
    return Command(**{**row, **enums})
