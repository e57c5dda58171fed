"""Steps of an index build: create the new index, and publish it when it is complete."""

from tis_sync.durable.recorded_step import step
from tis_sync.errors import IncompleteBuildError
from tis_sync.execution.requests import request_another
from tis_sync.logs import run_log
from tis_sync.runs import checks
from tis_sync.runs.end import build_index, index_spec
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.run import Phase, RunDetail
from tis_sync.runs.services import Services
from tis_sync.search.model import Position


@step
def begin_build(s: Services, run_id: str, attempt: int) -> str:
    """Create the index of this attempt's build, or find it; drop those of earlier attempts.

    Returns:
        The name of the index; readers do not see it yet.

    """
    s.fence(run_id, attempt)()
    run = s.history.get(run_id)
    spec = index_spec(run)
    for build in run.builds[:-1]:
        s.search().drop(spec, build_index(run, build))
    index = s.search().begin(spec, run.builds[-1])
    # If the run has ended in the meantime, this has the index dropped later.
    s.history.expect_cleanup(run_id, needed=True)
    return index


@step
def publish(
    s: Services,
    run_id: str,
    attempt: int,
    index: str,
    filled: list[PartitionResult],
    position: Position,
) -> None:
    """Compare a finished index with its source and its usual size, and make it live.

    What others wrote during the build went to the previous index. Then the run is followed by
    another one, which compares the new index with what TCS contains by then.

    Args:
        s: settings, clock and servers.
        run_id: the run.
        attempt: the number of the attempt.
        index: the finished index.
        filled: the results of its partitions.
        position: how far the live index was written before the run read anything.

    Raises:
        IncompleteBuildError: the index does not contain exactly the documents that were sent.
        HeldError: the index would shrink more than the guard allows, and the run was not approved.

    """
    fence = s.fence(run_id, attempt)
    run = s.history.get(run_id)
    spec = index_spec(run)
    s.history.enter_phase(run_id, Phase.PUBLISH, s.clock())
    total = sum(filled, PartitionResult())
    size = s.search().refresh(index)
    s.history.note(
        run_id,
        considered=total.considered,
        added=size,
        changed=0,
        removed=0,
        set_aside=total.set_aside,
        size=size,
    )
    if size != total.added:
        raise IncompleteBuildError(
            f"The new index {index} contains {size:,} of {total.added:,} documents. It was not "
            "published; the old index is still in use."
        )
    live = s.search().live(spec)
    if live is not None and live.name != index:
        existing = live.own_documents
        shrinkage = max(0, existing - size)
        s.history.note(run_id, existing=existing, detail=RunDetail(shrinkage=shrinkage))
        checks.check_shrinkage(s, run, existing, shrinkage)
    checks.check_size(s, run, size)
    fence()
    s.search().publish(spec, index)
    before = set() if live is None else set(live.names) - {index}
    if before != set(position) or s.search().position(list(position)) != position:
        request_another(s, run, "the previous index was written to during the build")
    with run_log(run_id) as log:
        log.info("published", index=index, documents=size)
