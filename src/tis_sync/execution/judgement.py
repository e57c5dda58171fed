"""The step between planning and writing: add up the plans, and decide what to do."""

from enum import Enum

from tis_sync.durable.recorded_step import step
from tis_sync.execution.preparation import Mode
from tis_sync.jobs.base import IndexTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.runs import checks
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.run import RunDetail
from tis_sync.runs.services import Services


class Decision(Enum):
    """What a plan leads to."""

    NOTHING = "write nothing"
    APPLY = "apply the plan"
    BUILD = "rebuild the index, because too much of it differs"


@step
def judge(
    s: Services, run_id: str, attempt: int, planned: list[PartitionResult], mode: Mode
) -> Decision:
    """Add up the plans, record the totals, and decide what to do.

    Raises:
        HeldError: the guard objects, and the run was not approved.

    """
    s.fence(run_id, attempt)()
    run = s.history.get(run_id)
    total = sum(planned, PartitionResult())
    size = total.existing + total.added - total.removed
    is_index = isinstance(JOB_BY_NAME[run.job].target, IndexTarget)
    shrinkage = max(0, total.existing - size) if is_index else 0
    detail = RunDetail(duplicates=total.duplicates, shrinkage=shrinkage)
    if run.options.dry_run:
        detail = run.detail  # the partitions have added their samples
    s.history.note(
        run_id,
        considered=total.considered,
        existing=total.existing,
        added=total.added,
        changed=total.changed,
        removed=total.removed + total.duplicates,
        set_aside=total.set_aside,
        size=size,
        detail=detail,
    )
    if run.options.dry_run:
        return Decision.NOTHING
    checks.check_guard(s, run, total.existing, total.lost)
    if is_index:
        checks.check_shrinkage(s, run, total.existing, shrinkage)
        checks.check_size(s, run, size)
    if not total.writes:
        return Decision.NOTHING
    differing = total.writes / max(1, total.existing)
    if mode == Mode.IN_PLACE and differing > s.settings.rebuild_share:
        return Decision.BUILD
    return Decision.APPLY
