"""The step that replaces a whole table."""

from tis_sync.db.named_locks import end_holders
from tis_sync.durable.recorded_step import step
from tis_sync.execution.job_lock import hold_java_lock
from tis_sync.jobs.base import TableTarget
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.reconcile.table_apply import replace
from tis_sync.runs import checks, partition
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.run import Phase
from tis_sync.runs.services import Services
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange


@step
def replace_table(s: Services, run_id: str, attempt: int, ranges: list[KeyRange]) -> None:
    """Replace a whole table in one transaction.

    Raises:
        HeldError: the guard objects to what the table would lose, and the run was not approved.

    """
    fence = s.fence(run_id, attempt)
    fence()
    run = s.history.get(run_id)
    target = JOB_BY_NAME[run.job].target
    assert isinstance(target, TableTarget)
    s.history.enter_phase(run_id, Phase.REPLACE, s.clock(), len(ranges))
    hold_java_lock(s, run)
    locks = partition.lock_names(s, target, ALL_KEYS)
    end_holders(s.tcs(), locks)
    desired = [partition.desired_rows(s, run, keys) for keys in ranges]
    total = sum((rows.judged for rows in desired), PartitionResult())
    count = sum(rows.frame.height for rows in desired)
    s.history.note(
        run_id,
        considered=count,
        existing=total.existing,
        added=count,
        changed=0,
        removed=total.existing + total.duplicates,
        set_aside=total.set_aside,
        size=count,
    )
    checks.check_guard(s, run, total.existing, total.lost)
    replace(s.tcs(), target.spec, [rows.frame for rows in desired], fence, locks[0])
