"""The lock of the Java service: held while a run works, so that both never write at once."""

from datetime import timedelta

from tis_sync.errors import JavaRunsError
from tis_sync.jobs.catalogue import JOB_BY_NAME
from tis_sync.runs.run import Run, RunState
from tis_sync.runs.services import Services
from tis_sync.tcs import shedlock

PROLONG_SECONDS = 60.0  # a held lock of the Java service is prolonged this often


def hold_java_lock(s: Services, run: Run) -> None:
    """Take or prolong the job's lock in TCS's table `shedlock` while the Java service is in use.

    Each step calls this, because a resumed run skips the steps it has completed.

    Raises:
        JavaRunsError: the Java service holds the lock.

    """
    if not s.settings.java_shedlock or run.options.dry_run:
        return
    job = JOB_BY_NAME[run.job]
    longest = timedelta(minutes=s.settings.shedlock_minutes)
    holder = shedlock.take(s.tcs(), job.lock_name, run.lock_owner, s.clock(), longest)
    # If the run has ended in the meantime, this has the lock freed later.
    s.history.expect_cleanup(run.id, needed=True)
    if holder is not None:
        name, until = holder
        raise JavaRunsError(
            f"Already running: {job.name} in the Java service: {name} holds its lock "
            f"{job.lock_name} until {until:%Y-%m-%d %H:%M:%S} UTC."
        )


def prolong_java_locks(s: Services) -> None:
    """Prolong the locks that running runs hold, so that they outlast a long step."""
    if not s.settings.java_shedlock:
        return
    longest = timedelta(minutes=s.settings.shedlock_minutes)
    margin = timedelta(seconds=min(PROLONG_SECONDS, longest.total_seconds() / 2))
    for run in s.history.all_active():
        if run.state == RunState.RUNNING and run.job in JOB_BY_NAME:
            lock = JOB_BY_NAME[run.job].lock_name
            shedlock.prolong(s.tcs(), lock, run.lock_owner, s.clock(), longest, margin)
