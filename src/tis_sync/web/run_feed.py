"""Follow a run: its family and its log, read once per tick for all viewers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tis_sync.runs.run import LogLine, Run
from tis_sync.runs.services import Services
from tis_sync.web.feeds import Feeds

LOG_LINES = 500  # the last ones of a log are shown


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment.

    Attributes:
        family: the run, then the runs that it requested, and those that they requested.
        log_lines: the last lines of its log.

    """

    family: tuple[Run, ...]
    log_lines: tuple[LogLine, ...]

    @property
    def has_ended(self) -> bool:
        """Whether the whole family has ended."""
        return not any(run.is_active for run in self.family)


def snapshot(s: Services, run_id: str) -> RunSnapshot:
    """Return a run, by its full id, as it is now."""
    lines = s.history.lines(run_id)[-LOG_LINES:]
    return RunSnapshot(tuple(s.history.family(run_id)), tuple(lines))


async def follow_run(s: Services, feeds: Feeds, run_id: str) -> AsyncIterator[RunSnapshot]:
    """Yield a run, by its full id, now and whenever it changes, until its family has ended."""
    async for current in feeds.follow(f"run/{run_id}", lambda: snapshot(s, run_id)):
        yield current
        if current.has_ended:
            return
