"""The last step of a run that changed an index in place."""

from contextlib import suppress

from tis_sync.durable.recorded_step import step
from tis_sync.errors import PlanOutdatedError
from tis_sync.execution.requests import request_another
from tis_sync.logs import run_log
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.search.model import Position
from tis_sync.state.liveness import Fence


@step
def settle(
    s: Services, run_id: str, attempt: int, index: str | None, set_aside: int, position: Position
) -> None:
    """Make changes in place visible, remove foreign documents, and record what was set aside.

    A foreign document that is older than everything the run has read can go, because the run has
    written what TCS contains instead. A newer one comes from an edit during the run: then the run
    is followed by another one.

    Args:
        s: settings, clock and servers.
        run_id: the run.
        attempt: the number of the attempt.
        index: the index that was changed in place. None: the target is a table.
        set_aside: the number of records that the plans could not use, and of documents that the
            server refused.
        position: how far the index was written before the run read anything.

    """
    fence = s.fence(run_id, attempt)
    fence()
    run = s.history.get(run_id)
    if index is not None:
        s.search().refresh(index)
        _remove_foreign(s, run, index, position, fence)
    s.history.note(run_id, set_aside=set_aside)


def _remove_foreign(s: Services, run: Run, index: str, position: Position, fence: Fence) -> None:
    """Remove the foreign documents that were in the index before the run."""
    search = s.search()
    if search.foreign(index).is_empty():
        return
    old = search.foreign(index, position.get(index, []))
    fence()
    with suppress(PlanOutdatedError):  # somebody has just changed or deleted some of them
        search.write(index, [], old)
    search.refresh(index)
    with run_log(run.id) as log:
        log.info("foreign documents removed", index=index, documents=old.height)
    if not search.foreign(index).is_empty():
        request_another(s, run, "the index was written to during the run")
