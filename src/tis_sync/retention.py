"""Retention: once a day, delete what is older than the setting `history_days`."""

from datetime import datetime
from typing import Any

from tis_sync import audit
from tis_sync.durable import Schedule, Workflow, step
from tis_sync.esr import retention as esr_retention
from tis_sync.logs import get
from tis_sync.runs.schedule import PREFIX
from tis_sync.runs.services import Services
from tis_sync.runs.workflow import RUNS_QUEUE


@step
def prune(s: Services) -> int:
    """Delete old runs, messages, generations, closed alarms and lines of the audit log.

    The last success of each job is kept, and so is everything that prevents a record from being
    sent twice.

    Returns:
        The number of rows deleted.

    """
    now, days = s.clock(), s.settings.history_days
    deleted = (
        s.history.prune(now, days)
        + esr_retention.prune(s.state, now, days)
        + audit.prune(s.state, now, days)
        + s.alarms.prune(now, days)
    )
    if deleted:
        get().info("pruned", rows=deleted, days=days)
    return deleted


def prune_daily(s: Services, _at: datetime, _context: Any) -> None:
    """Prune at the scheduled time."""
    prune(s)


PRUNE = Workflow("tis_sync.prune", prune_daily, RUNS_QUEUE)
SCHEDULE = Schedule(PREFIX + "retention", PRUNE, "30 3 * * *", None)
