"""S8, 2021-06: a rebuild overloaded the cluster, and the application was down for 25 minutes."""

import threading
import time
from pathlib import Path

import pytest

from tests.conftest import TODAY, SearchUrl
from tests.proxy import proxy
from tests.running import run_job, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers


def test_the_concurrency_adapts_to_the_latency_of_the_cluster(
    embedded_tcs: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    demo.generate(embedded_tcs.database, demo.Size(600), TODAY)
    search_url("elasticsearch")
    under_way: list[int] = []
    lock = threading.Lock()
    now = 0

    def overloaded(_: bytes) -> str:
        """A server that answers more slowly the more requests are under way."""
        nonlocal now
        with lock:
            now += 1
            under_way.append(now)
            many = now
        time.sleep(0.08 * many)
        with lock:
            now -= 1
        return "none"

    with proxy(elasticsearch, overloaded) as (address, _):
        settings = Settings(
            home=tmp_path, tcs_url=embedded_tcs.url, search_url=f"elasticsearch+{address}",
            chunk_bytes=20_000, chunks_in_flight=8, partitions_at_once=1, bulk_target_seconds=0.3,
        )  # fmt: skip
        with working(settings) as services:
            (run,) = run_job(services, "PersonElasticSearchSyncJob")
    assert run.state == "succeeded"
    assert max(under_way[:8]) >= 6
    later = under_way[len(under_way) // 2 :]
    assert sum(later) / len(later) < 4.5
