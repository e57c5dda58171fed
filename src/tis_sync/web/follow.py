"""Follow a run: its family and its log, read once a tick for all who look."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tis_sync.runs.run import Line, Run
from tis_sync.runs.services import Services
from tis_sync.web.live import Live

LINES_SHOWN = 500  # the last ones of a log


@dataclass(frozen=True)
class Seen:
    """What is known of a run now: it and all that follows it, the last lines of its log."""

    family: tuple[Run, ...]
    lines: tuple[Line, ...]

    @property
    def ended(self) -> bool:
        """Whether it, and all that follows it, has ended."""
        return not any(run.is_active for run in self.family)


def seen_now(s: Services, run_id: str) -> Seen:
    """What is known of a run (by its whole id) now."""
    family = tuple(s.history.family(run_id))
    return Seen(family, tuple(s.history.lines(run_id)[-LINES_SHOWN:]))


async def following(s: Services, live: Live, run_id: str) -> AsyncIterator[Seen]:
    """What is known of a run (by its whole id), now and when that changes, until it has ended."""
    async for seen in live.follow(f"run/{run_id}", lambda: seen_now(s, run_id)):
        yield seen
        if seen.ended:
            return
