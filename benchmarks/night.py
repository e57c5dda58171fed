"""One night in this process: `python -m benchmarks.night first|quiet|"one percent" [alone]`.

Prints JSON: the seconds of the night and of each job, rows written, peak memory of the process.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tis_sync import actions
from tis_sync.app import session
from tis_sync.audit import Actor, Channel
from tis_sync.db.database import Database
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.run import Run, RunOptions, RunState
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.tcs import tables as t

ACTOR = Actor("benchmark", Channel.COMMAND_LINE)
POLL_SECONDS = 0.5
TABLE_JOBS = (
    "PersonOwnerRebuildJob",
    "PersonPlacementEmployingBodyTrustJob",
    "PersonPlacementTrainingBodyTrustJob",
    "PostEmployingBodyTrustJob",
    "PostTrainingBodyTrustJob",
)


def main(phase: str, *, alone: bool) -> None:
    """Run the night of a phase, and print what it took.

    Args:
        phase: "first", "quiet", or "one percent": one person in a hundred is changed first.
        alone: after the first night, run some jobs again, from nothing and one at a time.

    """
    with session(load_settings()) as s:
        if phase == "one percent":
            _change_one_percent(s.tcs())
        night = _wait(s, actions.run_night(s, ACTOR, RunOptions()))
        assert night.state == RunState.SUCCEEDED, night.error
        result: dict[str, Any] = {
            "seconds": night.seconds,
            "jobs": {
                run.job: {
                    "seconds": run.seconds,
                    "considered": run.considered,
                    "written": run.written,
                }
                for run in s.history.children(night.id)
            },
        }
        if phase == "first" and alone:
            result["alone"] = _run_alone(s)
    result["peak_mb"] = peak_mb()
    print(json.dumps(result))


def peak_mb() -> int:
    """The peak memory of this process in MB; `ru_maxrss` would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) // 1024


def _run_alone(s: Services) -> dict[str, float]:
    """The seconds of jobs that start from nothing, one at a time."""
    with s.tcs().write() as connection:
        for table in (t.PersonOwner, t.PersonTrust, t.PostTrust):
            connection.execute(sa.delete(table))
    options = dict.fromkeys(TABLE_JOBS, RunOptions(follow_ups=False))
    options["PersonElasticSearchSyncJob"] = RunOptions(rebuild=True)
    return {name: _run(s, name, option).seconds or 0.0 for name, option in options.items()}


def _run(s: Services, name: str, options: RunOptions) -> Run:
    return _wait(s, actions.run_job(s, ACTOR, job_named(name), options))


def _wait(s: Services, run: Run) -> Run:
    while any(member.is_active for member in s.history.family(run.id)):
        time.sleep(POLL_SECONDS)
    return s.history.get(run.id)


def _change_one_percent(database: Database) -> None:
    """Change surnames and posts, and delete derived rows, each for one person in a hundred."""
    with database.write() as connection:
        connection.execute(
            sa.update(t.ContactDetails)
            .where(t.ContactDetails.c.id % 100 == 7)
            .values(surname="New")
        )
        connection.execute(
            sa.update(t.Placement)
            .where(t.Placement.c.traineeId % 100 == 7)
            .values(postId=t.Placement.c.postId % 1000 + 1)
        )
        connection.execute(sa.delete(t.PersonOwner).where(t.PersonOwner.c.id % 100 == 8))


if __name__ == "__main__":
    main(sys.argv[1], alone="alone" in sys.argv[2:])
