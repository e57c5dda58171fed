"""S3, 2021-03: people were missing for hours, because a bulk request exceeded 10 MB."""

from pathlib import Path

import pytest

from tests.conftest import TODAY, SearchUrl
from tests.proxy import proxy
from tests.running import run_job, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers
LIMIT = 60_000  # the server's limit in this test; the setting below is far above it


def test_chunks_are_cut_by_bytes_and_a_413_lowers_the_limit(
    embedded_tcs: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(800), TODAY)
    search_url("elasticsearch")
    with proxy(elasticsearch, lambda b: "413" if len(b) > LIMIT else "none") as (address, seen):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}",
            chunk_bytes=8_000_000,
        )  # fmt: skip
        with working(settings) as services:
            (run,) = run_job(services, "PersonElasticSearchSyncJob")
            assert run.state == "succeeded"
            assert run.added == run.considered
            refused = seen.faults["413"]
            assert refused > 0
            (again,) = run_job(services, "PersonElasticSearchSyncJob", rebuild=True)
            assert again.state == "succeeded"
            assert seen.faults["413"] - refused < refused
    assert seen.largest <= LIMIT
