"""The check of the search server: each index exists, is ours, and accepts changes."""

from collections.abc import Iterator

from tis_sync.doctor.finding import DRIFTED, FAILED, MISSING, NOT_CHECKED, OK, Finding
from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.services import Services
from tis_sync.search.model import IndexSpec

LIFT_BLOCK = "free disk space on the search server, and lift the block of the index"


def check_search(s: Services) -> Iterator[Finding]:
    """Check that the server can be used, and each index.

    A failed check of an index that a run is building counts as not checked.
    """
    s.search().check()
    for job in JOBS:
        if not isinstance(job.target, IndexTarget):
            continue
        # Before the index and after it: a run may end, or begin, in between.
        building = _run_of(s, job)
        finding = _index(s, job, job.target.spec)
        building = building or _run_of(s, job)
        if finding.state in FAILED and building is not None:
            message = f"{finding.message}; run {building.id[:8]} of {building.job} may change that"
            remedy = f"wait for the run: `tis-sync show {building.id[:8]}`"
            finding = Finding(finding.name, NOT_CHECKED, message, remedy)
        yield finding


def _run_of(s: Services, job: Job) -> Run | None:
    """The active run that builds or changes the index of a job: its own, or the night's."""
    runs = s.history.active_of([job.name, NIGHT])
    return runs[0] if runs else None


def _index(s: Services, job: Job, spec: IndexSpec) -> Finding:
    """Check whether the index of a job exists and is ours."""
    name, remedy = f"index {spec.alias}", f"run the job: `tis-sync run {job.name}`"
    live = s.search().live(spec)
    if live is None:
        return Finding(name, MISSING, "the alias does not exist", remedy)
    if len(live.names) > 1:
        indexes = f"the alias stands for {len(live.names)} indexes: {', '.join(live.names)}"
        return Finding(name, DRIFTED, indexes, remedy)
    if live.name == spec.alias:
        concrete = "an index, not an alias, has this name; it was not built by tis-sync"
        return Finding(name, DRIFTED, concrete, remedy)
    if not live.ours:
        return Finding(name, DRIFTED, f"{live.name} was not built by tis-sync", remedy)
    if live.version != spec.version:
        message = f"{live.name} was built with another version of the mapping"
        return Finding(name, DRIFTED, message, remedy)
    if live.blocks:
        blocked = f"the server refuses changes of {live.name}: {', '.join(live.blocks)}"
        return Finding(name, DRIFTED, blocked, LIFT_BLOCK)
    # TCS writes such documents at every edit, so during the day they are not drift.
    note = f", {live.foreign:,} of them written by others" if live.foreign else ""
    return Finding(name, OK, f"{live.documents:,} documents{note}")
