"""OpenSearch 2, through its official client."""

from collections.abc import Mapping
from typing import Any

from opensearchpy import ConnectionError as ClientConnectionError
from opensearchpy import OpenSearch, SerializationError, TransportError

from tis_sync.search.bulk import Reply

PRODUCT = "OpenSearch"
NEEDED_MAJOR = "2"


class OpenSearchTransport:
    """`Transport` over the official client; arguments as for `ElasticTransport`."""

    product = PRODUCT

    def __init__(self, url: str, address: str, timeout: float, connections: int) -> None:
        self.address = address
        self._client = OpenSearch(
            [url], timeout=timeout, max_retries=0, retry_on_timeout=False, maxsize=connections
        )

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Reply:
        """Send one request; the status of the reply is 0 when the connection failed."""
        try:
            data = self._client.transport.perform_request(
                method, path, body=body, headers=dict(headers)
            )
        except ClientConnectionError as error:
            return Reply(0, f"{type(error).__name__}: {error.error}")
        except SerializationError as error:
            return Reply(0, f"an answer that is not JSON: {error}")
        except TransportError as error:
            return Reply(int(error.status_code), error.info or error.error)
        return Reply(200, data)


def unsupported(described: Mapping[str, Any]) -> str | None:
    """Why the server that describes itself so (GET /) cannot be used; None: it can."""
    version = described.get("version", {})
    number = str(version.get("number"))
    if version.get("distribution") != "opensearch":
        return f"this is Elasticsearch {number}; its URL begins with elasticsearch+http"
    if number.split(".")[0] != NEEDED_MAJOR:
        return f"version {number} is not supported, {PRODUCT} {NEEDED_MAJOR} is"
    return None
