"""Create the search engine that the settings name."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tis_sync import extras
from tis_sync.errors import UsageError
from tis_sync.search.bulk import BulkWriter
from tis_sync.search.concurrency import ConcurrencyLimiter
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import SearchEngine
from tis_sync.search.rest import RestEngine
from tis_sync.settings.model import Settings

DEFAULT_PORT = 9200


def connect(settings: Settings) -> SearchEngine:
    """Create the engine that the settings name, without contacting it; see `SearchEngine.check`.

    Raises:
        UsageError: the URL is not supported, or the package for its server is not installed.

    """
    url = settings.search()
    if url.startswith("embedded:"):
        return EmbeddedEngine(Path(url.removeprefix("embedded:")))
    product, _, rest = url.partition("+")
    parts = urlsplit(rest)
    try:
        if product not in {"elasticsearch", "opensearch"} or parts.scheme not in {"http", "https"}:
            raise ValueError
        port = parts.port or DEFAULT_PORT
        if not parts.hostname:
            raise ValueError
    except ValueError:
        raise UsageError(
            "TIS_SYNC_SEARCH_URL is not a search URL that tis-sync supports. Examples: "
            "elasticsearch+http(s)://HOST:PORT, opensearch+http(s)://HOST:PORT or embedded:FOLDER."
        ) from None
    user, at, _ = parts.netloc.rpartition("@")
    full = urlunsplit((parts.scheme, f"{user}{at}{parts.hostname}:{port}", parts.path, "", ""))
    address = f"{parts.scheme}://{parts.hostname}:{port}"
    connections = settings.chunks_in_flight
    writer = BulkWriter(
        ConcurrencyLimiter(connections, settings.bulk_target_seconds),
        settings.chunk_bytes,
        settings.bulk_retry_timeout_seconds,
    )
    shape = (settings.search_shards, settings.search_replicas)
    timeout = settings.search_timeout_seconds
    # The clients are large and not always installed, so a process only imports the one it uses.
    if product == "elasticsearch":
        with extras.needs(extras.ELASTICSEARCH):
            from tis_sync.search import elastic

        transport = elastic.ElasticTransport(full, address, timeout, connections)
        return RestEngine(transport, writer, elastic.unsupported, *shape)
    with extras.needs(extras.OPENSEARCH):
        from tis_sync.search import opensearch

    return RestEngine(
        opensearch.OpenSearchTransport(full, address, timeout, connections),
        writer,
        opensearch.unsupported,
        *shape,
    )
