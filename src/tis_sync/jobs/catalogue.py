"""All jobs, and how people name them."""

from difflib import get_close_matches
from graphlib import TopologicalSorter

from tis_sync.errors import NotFoundError
from tis_sync.jobs.base import Job
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.jobs.person_trust import PERSON_EMPLOYING_BODY, PERSON_TRAINING_BODY
from tis_sync.jobs.post_funding import POST_FUNDING_STATUS
from tis_sync.jobs.post_index import POST_INDEX
from tis_sync.jobs.post_trust import POST_EMPLOYING_BODY, POST_TRAINING_BODY

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
BY_NAME = {job.name: job for job in JOBS}


def job_named(text: str) -> Job:
    """The job that a person means: by name, key, or the Java service's bean or method, in any case.

    Raises:
        NotFoundError: none; the message proposes the nearest names.

    """
    wanted = text.strip().lower()
    for job in JOBS:
        if wanted in {name.lower() for name in (job.name, *job.old_names)}:
            return job
    spellings = {name.lower(): job.name for job in JOBS for name in (job.name, *job.old_names)}
    near = dict.fromkeys(
        spellings[m] for m in get_close_matches(wanted, spellings, n=3, cutoff=0.4)
    )
    hint = f"did you mean {' or '.join(near)}?" if near else "`tis-sync jobs` lists them."
    raise NotFoundError(f"There is no job {text!r}; {hint}")


def upstream(job: Job) -> set[str]:
    """Jobs that a night runs before this one: those it depends on, and those it follows up."""
    return set(job.depends_on) | {other.name for other in JOBS if job.name in other.follow_ups}


def night_order() -> list[Job]:
    """All jobs, each after its upstream jobs; of several that could be next, that with most ahead.

    So the longest chain is never kept waiting by jobs that nothing waits for.
    """
    chains: dict[str, int] = {}
    for name in reversed([*TopologicalSorter({j.name: upstream(j) for j in JOBS}).static_order()]):
        chains[name] = 1 + max((chains[j.name] for j in JOBS if name in upstream(j)), default=0)
    return sorted(JOBS, key=lambda job: -chains[job.name])
