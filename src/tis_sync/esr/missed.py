"""The daily load of notifications of type 1, also for days on which nobody did it."""

import threading
from datetime import datetime, timedelta

from tis_sync.esr.deaneries import DNC, london_day
from tis_sync.esr.files import files
from tis_sync.esr.rotation import load_rotation
from tis_sync.logs import get
from tis_sync.runs.services import Services

LONGEST_DAYS = 92  # further back, who is in a post now says more than who came then
_one_at_a_time = threading.Lock()
_loaded_at: dict[str, datetime] = {}  # when this process last loaded, by TCS


def load_missed_days(s: Services, *, since: datetime) -> int:
    """Load the notifications of every day after that of the newest DNC file, up to today.

    Args:
        s: the servers.
        since: a load of this process that began at this moment or later will do.

    Returns:
        How many notifications were written.

    Raises:
        UnreachableError, SourceError: TCS does not answer.

    """
    with _one_at_a_time:
        now, tcs = s.clock(), s.settings.tcs()
        if tcs in _loaded_at and _loaded_at[tcs] >= since:
            return 0
        today = london_day(now)
        newest = files(s.state, file_type=DNC, limit=1)
        days = 1
        if newest and newest[0].day < today:
            days = min((today - newest[0].day).days, LONGEST_DAYS)
        written = sum(
            load_rotation(s.tcs(), today - timedelta(days=back)) for back in range(days - 1, -1, -1)
        )
        _loaded_at[tcs] = now
        get().info("notifications loaded", days=days, written=written)
        return written
