"""The daily load of vacancy notifications, including missed days."""

import threading
from datetime import datetime, timedelta

from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.store import find_files
from tis_sync.esr.notifications.vacancy_notifications import load_day
from tis_sync.logs import get
from tis_sync.runs.services import Services

# TCS shows who is in a post now, which says little about who took it up longer ago.
LONGEST_DAYS = 92
_one_at_a_time = threading.Lock()
_loaded_at: dict[str, datetime] = {}  # when this process last loaded, by the URL of TCS


def load_missed_days(s: Services, *, since: datetime) -> int:
    """Load the notifications of every day after the latest DNC file, up to today.

    Args:
        s: settings, clock and servers.
        since: do nothing if this process has loaded them at or after this time.

    Returns:
        The number of notifications written.

    Raises:
        UnreachableError, SourceError: TCS does not answer.

    """
    with _one_at_a_time:
        now, tcs = s.clock(), s.settings.tcs()
        if tcs in _loaded_at and _loaded_at[tcs] >= since:
            return 0
        today = london_day(now)
        newest = find_files(s.state, file_type=FileType.DNC, limit=1)
        days = 1
        if newest and newest[0].day < today:
            days = min((today - newest[0].day).days, LONGEST_DAYS)
        written = sum(
            load_day(s.tcs(), today - timedelta(days=back)) for back in range(days - 1, -1, -1)
        )
        _loaded_at[tcs] = now
        get().info("notifications loaded", days=days, written=written)
        return written
