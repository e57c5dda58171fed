"""The names of jobs, and the order of a night."""

import pytest

from tis_sync.errors import UsageError
from tis_sync.jobs.catalogue import JOB_BY_NAME, JOBS, job_named, night_order, upstream


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_answers_to_its_name_key_and_old_names_in_any_case(job) -> None:  # type: ignore[no-untyped-def]
    for name in (job.name, job.key, *job.old_names):
        assert job_named(name) is job
        assert job_named(name.upper()) is job
        assert job_named(f" {name.lower()} ") is job


def test_the_keys_match_the_java_service() -> None:
    assert "personOwnerRebuildJob" in {job.key for job in JOBS}
    assert len({job.lock_name for job in JOBS}) == len(JOBS)


def test_a_night_runs_each_job_after_all_that_is_upstream_of_it() -> None:
    order = [job.name for job in night_order()]
    assert sorted(order) == sorted(JOB_BY_NAME)
    for name in order:
        assert all(
            order.index(before) < order.index(name) for before in upstream(JOB_BY_NAME[name])
        )


def test_an_unknown_name_gets_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="did you mean PostElasticSearchSyncJob"):
        job_named("postElasticSearchSyncJobs")
