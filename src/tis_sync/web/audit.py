"""Who did what, when, and what came of it: all that changes something, done or refused."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tis_sync.errors import TisSyncError
from tis_sync.state import web as t

DONE = "done"


@dataclass(frozen=True)
class Entry:
    """One line of the audit log."""

    id: int
    at: datetime
    who: str
    how: str
    action: str
    subject: str
    detail: str
    outcome: str


def record(
    state: sa.Engine,
    now: datetime,
    *,
    who: str,
    how: str,
    action: str,
    subject: str,
    outcome: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line."""
    said = {name: value for name, value in (detail or {}).items() if value not in (None, False)}
    with state.execution_options(writes=True).begin() as connection:
        connection.execute(
            sa.insert(t.audit).values(
                at=now, who=who[:200], how=how, action=action, subject=subject[:200],
                detail=json.dumps(said, default=str) if said else "", outcome=outcome,
            )
        )  # fmt: skip


@contextmanager
def audited(
    state: sa.Engine,
    now: datetime,
    *,
    who: str,
    how: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Carry something out, and record what came of it."""
    outcome = DONE
    try:
        yield
    except TisSyncError as error:
        outcome = str(error)
        raise
    except Exception:
        outcome = "failed: our mistake; the log says more"
        raise
    finally:
        record(
            state, now, who=who, how=how, action=action, subject=subject, outcome=outcome,
            detail=detail,
        )  # fmt: skip


def entries(state: sa.Engine, limit: int = 100, before: int | None = None) -> list[Entry]:
    """The last lines, newest first; before the one with that id, where given."""
    statement = sa.select(t.audit).order_by(t.audit.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(t.audit.c.id < before)
    with state.connect() as connection:
        return [Entry(**row) for row in connection.execute(statement).mappings()]
