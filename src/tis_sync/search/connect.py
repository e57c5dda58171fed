"""From the setting `search_url` to a search engine."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tis_sync.errors import UsageError
from tis_sync.search.bulk import Courier
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import SearchEngine
from tis_sync.search.pressure import Pressure
from tis_sync.search.rest import RestEngine
from tis_sync.settings import Settings

DEFAULT_PORT = 9200


def connect(settings: Settings) -> SearchEngine:
    """The engine that the settings name; it was not asked anything yet (see its `check`).

    Raises:
        UsageError: the URL is of no kind that we know.

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
            "TIS_SYNC_SEARCH_URL is not a search URL that tis-sync knows; expected "
            "elasticsearch+http(s)://HOST:PORT, opensearch+http(s)://HOST:PORT or embedded:FOLDER."
        ) from None
    user, at, _ = parts.netloc.rpartition("@")
    full = urlunsplit((parts.scheme, f"{user}{at}{parts.hostname}:{port}", parts.path, "", ""))
    address = f"{parts.scheme}://{parts.hostname}:{port}"
    connections = settings.chunks_in_flight
    courier = Courier(
        Pressure(connections, settings.bulk_target_seconds),
        settings.chunk_bytes,
        settings.bulk_patience_seconds,
    )
    shape = (settings.search_shards, settings.search_replicas)
    timeout = settings.search_timeout_seconds
    # The clients are large: a process loads the one that it uses.
    if product == "elasticsearch":
        from tis_sync.search import elastic

        transport = elastic.ElasticTransport(full, address, timeout, connections)
        return RestEngine(transport, courier, elastic.unsupported, *shape)
    from tis_sync.search import opensearch

    return RestEngine(
        opensearch.OpenSearchTransport(full, address, timeout, connections),
        courier,
        opensearch.unsupported,
        *shape,
    )
