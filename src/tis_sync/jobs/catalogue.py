"""The catalogue of all jobs: their names, and the order of a night."""

from difflib import get_close_matches
from graphlib import TopologicalSorter

from tis_sync.errors import NotFoundError
from tis_sync.jobs.base import Job
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.jobs.post_index import POST_INDEX
from tis_sync.jobs.trusts import (
    PERSON_EMPLOYING_BODY,
    PERSON_TRAINING_BODY,
    POST_EMPLOYING_BODY,
    POST_TRAINING_BODY,
)

JOBS: tuple[Job, ...] = (
    PERSON_OWNER,
    PERSON_EMPLOYING_BODY,
    PERSON_TRAINING_BODY,
    POST_EMPLOYING_BODY,
    POST_TRAINING_BODY,
    PERSON_INDEX,
    POST_FUNDING_STATUS,
    POST_INDEX,
    PERSON_RECORD_STATUS,
)
JOB_BY_NAME = {job.name: job for job in JOBS}


def job_named(text: str) -> Job:
    """Find a job by its name, key, or bean or method in the Java service; case does not matter.

    Raises:
        NotFoundError: there is none; the message suggests similar names.

    """
    name = text.strip().lower()
    for job in JOBS:
        if name in {known.lower() for known in (job.name, *job.old_names)}:
            return job
    spellings = {known.lower(): job.name for job in JOBS for known in (job.name, *job.old_names)}
    matches = get_close_matches(name, spellings, n=3, cutoff=0.4)
    similar = dict.fromkeys(spellings[match] for match in matches)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`tis-sync jobs` lists them."
    raise NotFoundError(f"There is no job {text!r}; {hint}")


def upstream(job: Job) -> set[str]:
    """The names of the jobs that a night runs before this one: those it depends on or follows."""
    return set(job.depends_on) | {other.name for other in JOBS if job.name in other.follow_ups}


def night_order() -> list[Job]:
    """All jobs, each after its upstream jobs; those with the longest chain behind them first."""
    chain_lengths: dict[str, int] = {}
    for name in reversed([*TopologicalSorter({j.name: upstream(j) for j in JOBS}).static_order()]):
        waiting = [chain_lengths[job.name] for job in JOBS if name in upstream(job)]
        chain_lengths[name] = 1 + max(waiting, default=0)
    return sorted(JOBS, key=lambda job: -chain_lengths[job.name])
