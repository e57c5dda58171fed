"""Retention: what is old is deleted, every day, at each start of a worker, and after a night.

`history_days` is for what people look up: runs, messages, the audit log. `workflow_days` is for
what only recovery needs, and for samples of dry runs. Alarms, dead letters, and the content of
records and files have settings of their own: docs/personal-data.md lists all of them.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tis_sync import audit
from tis_sync.alarms.delivery import give_up_old
from tis_sync.durable.model import Schedule, Workflow
from tis_sync.durable.recorded_step import step
from tis_sync.durable.tables import prune_workflows
from tis_sync.errors import TisSyncError
from tis_sync.esr import content
from tis_sync.esr import retention as esr_retention
from tis_sync.esr.export.commands import Commands
from tis_sync.execution.workflow import RUNS_QUEUE
from tis_sync.logs import get
from tis_sync.runs.services import Services, utc_now
from tis_sync.state import tables as t
from tis_sync.state import web_tables as web
from tis_sync.state.clock import time_of
from tis_sync.workers.schedule import PREFIX


@step
def prune(s: Services) -> int:
    """Delete what is old, in our tables and in those of DBOS.

    The last success of each job is kept, and so is everything that prevents a record from being
    sent twice, and what unfinished and cancelled runs need to be resumed.

    Returns:
        The number of rows and workflows deleted, and of samples emptied.

    Raises:
        TisSyncError: a part failed; all others have been done.

    """
    now, days = s.clock(), s.settings.history_days
    parts: dict[str, Callable[[], int]] = {
        "runs": lambda: s.history.prune(now, days),
        "samples": lambda: _empty_samples(s, now),
        "alarms": lambda: s.alarms.prune(now, s.settings.alarm_days),
        "notifications": lambda: give_up_old(s.state, time_of(s.state)),
        "sessions": lambda: _delete_expired_sessions(s, now),
        "export": lambda: esr_retention.prune(s.state, now, days),
        "content": lambda: content.empty_old(s.state, now, s.settings.esr_content_days),
        "dead letters": lambda: _delete_dead_letters(s, now),
        "export commands": lambda: Commands(s.state).prune(now, days),
        "audit log": lambda: audit.prune(s.state, now, days),
        "workflows": lambda: _delete_workflows(s),
    }
    deleted: dict[str, int] = {}
    failed: list[str] = []
    for name, part in parts.items():
        try:
            deleted[name] = part()
        except Exception as error:  # noqa: BLE001  the other parts must not wait for this one
            get().error("not pruned", part=name, exc_info=error)
            failed.append(f"{name} ({type(error).__name__})")
    if any(deleted.values()):
        get().info("pruned", **{name: count for name, count in deleted.items() if count})
    if failed:
        raise TisSyncError(
            f"Retention could not delete what is old of: {', '.join(failed)}. It is tried again "
            "tomorrow; the log contains the tracebacks."
        )
    return sum(deleted.values())


def _empty_samples(s: Services, now: datetime) -> int:
    oldest = sa.literal(now - timedelta(days=s.settings.workflow_days), t.run.c.finished_at.type)
    old = sa.and_(t.run.c.dry_run, t.run.c.finished_at < oldest, t.run.c.detail.is_not(None))
    with s.state.write() as connection:
        return int(connection.execute(sa.update(t.run).where(old).values(detail=None)).rowcount)


def _delete_expired_sessions(s: Services, now: datetime) -> int:
    expired = web.session.c.expires_at < sa.literal(now, web.session.c.expires_at.type)
    with s.state.write() as connection:
        return int(connection.execute(sa.delete(web.session).where(expired)).rowcount)


def _delete_dead_letters(s: Services, now: datetime) -> int:
    return esr_retention.delete_dead_letters(s.state, now, s.settings.dead_letter_days)


def _delete_workflows(s: Services) -> int:
    # DBOS stamps workflows with the clock of its machine, which a rehearsal does not shift.
    now = utc_now()
    return prune_workflows(
        s.settings,
        finished_before=now - timedelta(days=s.settings.workflow_days),
        cancelled_before=now - timedelta(days=s.settings.history_days),
    )


def prune_daily(s: Services, _at: datetime, _context: Any) -> None:
    """Prune at the scheduled time."""
    prune(s)


PRUNE = Workflow("tis_sync.prune", prune_daily, RUNS_QUEUE)
SCHEDULE = Schedule(PREFIX + "retention", PRUNE, "30 3 * * *", None)
