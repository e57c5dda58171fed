"""One night of ours, in this process: `python -m benchmarks.ours first|quiet|"one percent"`.

Prints JSON: seconds of the night and of each job, rows written, peak memory of the process.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tis_sync.jobs.catalogue import job_named
from tis_sync.runs.ask import ask, ask_for_night
from tis_sync.runs.run import Options, Run
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.runs.workflows import start, start_night
from tis_sync.settings import load_settings
from tis_sync.tcs import tables as t
from tis_sync.tcs.write import writing


def main(phase: str, *, alone: bool) -> None:
    """Run the night of a phase; first change one person in a hundred where it says so.

    Args:
        phase: "first", "quiet" or "one percent".
        alone: after the first night, run some jobs again, from nothing, with nothing else running.

    """
    with session(load_settings()) as services:
        if phase == "one percent":
            _change_one_percent(services.tcs())
        night = ask_for_night(services, trigger="manual", who="benchmark", options=Options())
        start_night(night.id)
        _wait(services, night.id)
        runs = services.history.children(night.id)
        night = services.history.get(night.id)
        assert night.state == "succeeded", night.error
        result: dict[str, Any] = {
            "seconds": night.seconds,
            "jobs": {
                run.job: {
                    "seconds": run.seconds,
                    "considered": run.considered,
                    "wrote": run.wrote,
                }
                for run in runs
            },
        }
        if phase == "first" and alone:
            result |= _alone(services)
    result["peak_mb"] = peak_mb()
    print(json.dumps(result))


def peak_mb() -> int:
    """The most memory that this process held; `ru_maxrss` would count that of its parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) // 1024


def _alone(services: Services) -> dict[str, dict[str, float]]:
    """Some jobs again, from nothing, with nothing else running."""
    with writing(services.tcs()) as connection:
        for table in (t.PersonOwner, t.PersonTrust, t.PostTrust):
            connection.execute(sa.delete(table))
    seconds = {
        name: _run(services, name, Options(follow_ups=False)).seconds or 0.0
        for name in (
            "PersonOwnerRebuildJob",
            "PersonPlacementEmployingBodyTrustJob",
            "PersonPlacementTrainingBodyTrustJob",
            "PostEmployingBodyTrustJob",
            "PostTrainingBodyTrustJob",
        )
    }
    index = _run(services, "PersonElasticSearchSyncJob", Options(rebuild=True))
    return {"alone": {**seconds, index.job: index.seconds or 0.0}}


def _run(services: Services, name: str, options: Options) -> Run:
    run = ask(services, job_named(name), trigger="manual", who="benchmark", options=options)
    start([run.id])
    _wait(services, run.id)
    return services.history.get(run.id)


def _wait(services: Services, run_id: str) -> None:
    while any(run.is_active for run in services.history.family(run_id)):
        time.sleep(0.5)


def _change_one_percent(engine: sa.Engine) -> None:
    """Other surnames, other posts, and derived rows gone, each for one person in a hundred."""
    with writing(engine) as connection:
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
