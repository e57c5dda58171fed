"""The Java service's lock around a run, where the setting says that it still runs."""

from datetime import timedelta

from tis_sync.errors import LockedError, TisSyncError
from tis_sync.jobs.base import Job
from tis_sync.logs import get
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.tcs import shedlock


def take(s: Services, job: Job, run: Run) -> None:
    """Take the job's row in TCS; raise `LockedError` where the Java service holds it."""
    if not s.settings.java_shedlock or run.options.dry_run:
        return
    longest = timedelta(minutes=s.settings.shedlock_minutes)
    taken = shedlock.take(s.tcs(), job.lock_name, f"tis-sync {run.id}", s.clock(), longest)
    if taken is not None:
        holder, until = taken
        raise LockedError(
            f"Already running: {job.name} in the Java service: {holder} holds its lock "
            f"{job.lock_name} until {until:%Y-%m-%d %H:%M:%S} UTC."
        )


def free(s: Services, job: Job, run: Run) -> None:
    """Free the row again; a TCS that is away frees it by itself, when its time is over."""
    if not s.settings.java_shedlock or run.options.dry_run:
        return
    try:
        shedlock.release(s.tcs(), job.lock_name, f"tis-sync {run.id}", s.clock())
    except TisSyncError as error:
        get().warning("lock not freed", lock=job.lock_name, reason=str(error))
