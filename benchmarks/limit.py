"""The limit of an index build: the same bodies, made before, replayed from memory in parallel."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import sqlalchemy as sa

from tis_sync.jobs.base import AsOf, IndexProduct
from tis_sync.reconcile.index import encoded
from tis_sync.reconcile.partitions import partitions
from tis_sync.search.bulk import cut, encode
from tis_sync.search.elastic import ElasticTransport
from tis_sync.search.rest import BULK_ANSWER, JSON, RestEngine
from tis_sync.settings import Settings
from tis_sync.tcs.source import Source


def replay(
    engine: sa.Engine, search: RestEngine, settings: Settings, product: IndexProduct, today: date
) -> tuple[float, int]:
    """Seconds to index all bodies with nothing else to do, and how many documents there were."""
    source = Source(engine, today)
    bodies: list[bytes] = []
    count = 0
    for keys in partitions(engine, [product.keys], settings.partition_keys):
        views = product.views(source.load(product.reads, keys).frames, AsOf.on(today)).collect()
        for documents in encoded(views, product.form):
            count += documents.height
            bodies += [encode(chunk) for chunk in cut(documents, settings.chunk_bytes)]
        del views
    del source
    index = search.begin(product.spec, "limit")
    address = settings.search().partition("+")[2]
    at_once = settings.chunks_in_flight
    transport = ElasticTransport(address, address, settings.search_timeout_seconds, at_once)
    path = f"/{index}-write/_bulk?require_alias=true&filter_path={BULK_ANSWER}"

    def send(body: bytes) -> None:
        reply = transport.request("POST", path, body, JSON)
        assert reply.status == 200, reply.reason
        assert not reply.data["errors"], reply.data

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(send, bodies))
    assert search.refresh(index) == count
    seconds = time.perf_counter() - started
    search.abandon(index)
    return seconds, count
