"""The upper bound of an index build: the same request bodies, sent in parallel from memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from tis_sync.db.database import Database
from tis_sync.jobs.base import AsOf, IndexTarget
from tis_sync.reconcile.index_plan import encoded
from tis_sync.search.bulk import cut, encode
from tis_sync.search.elastic import ElasticTransport
from tis_sync.search.model import KEYS_PER_BUCKET
from tis_sync.search.rest import BULK_ANSWER, JSON, RestEngine
from tis_sync.settings.model import Settings
from tis_sync.tcs.key_ranges import key_ranges
from tis_sync.tcs.source import Source


def replay(
    database: Database, search: RestEngine, settings: Settings, target: IndexTarget, today: date
) -> tuple[float, int]:
    """Index prepared request bodies, with nothing else to do.

    Args:
        database: TCS.
        search: the search server; the index is dropped again.
        settings: chunk size and parallelism.
        target: the index.
        today: the day of the documents.

    Returns:
        The seconds that indexing took, and how many documents were indexed.

    """
    source = Source(database, today)
    bodies: list[bytes] = []
    count = 0
    columns, width = [target.partition_column], settings.partition_keys
    for keys in key_ranges(database, columns, width, multiple_of=KEYS_PER_BUCKET):
        views = target.views(source.load(target.reads, keys).frames, AsOf.on(today)).collect()
        for documents in encoded(views, target.form):
            count += documents.height
            bodies += [encode(chunk) for chunk in cut(documents, settings.chunk_bytes)]
        del views
    del source
    index = search.begin(target.spec, "upperbound")
    address = settings.search().partition("+")[2]
    parallel = settings.chunks_in_flight
    transport = ElasticTransport(address, address, settings.search_timeout_seconds, parallel)
    path = f"/{index}-write/_bulk?require_alias=true&filter_path={BULK_ANSWER}"

    def send(body: bytes) -> None:
        response = transport.request("POST", path, body, JSON)
        assert response.status == 200, response.reason
        assert not response.data["errors"], response.data

    started = time.perf_counter()
    with ThreadPoolExecutor(parallel) as threads:
        list(threads.map(send, bodies))
    assert search.refresh(index) == count
    seconds = time.perf_counter() - started
    search.drop(target.spec, index)
    return seconds, count
