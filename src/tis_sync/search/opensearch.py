"""OpenSearch 2, through its official client."""

from collections.abc import Mapping
from typing import Any

from opensearchpy import ConnectionError as ClientConnectionError
from opensearchpy import OpenSearch, SerializationError, TransportError

from tis_sync.search.response import CONNECTION_FAILED, Response

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
    ) -> Response:
        """Send one request; the status of the response is 0 if the connection failed."""
        try:
            data = self._client.transport.perform_request(
                method, path, body=body, headers=dict(headers)
            )
        except ClientConnectionError as error:
            return Response(CONNECTION_FAILED, f"{type(error).__name__}: {error.error}")
        except SerializationError as error:
            return Response(CONNECTION_FAILED, f"the answer is not JSON: {error}")
        except TransportError as error:
            return Response(int(error.status_code), error.info or error.error)
        return Response(200, data)


def unsupported(description: Mapping[str, Any]) -> str | None:
    """Why a server cannot be used, given its answer to GET /; None if it can be used."""
    version = description.get("version", {})
    number = str(version.get("number"))
    if version.get("distribution") != "opensearch":
        return f"this is Elasticsearch {number}; its URL begins with elasticsearch+http"
    if number.split(".")[0] != NEEDED_MAJOR:
        return f"version {number} is not supported; use {PRODUCT} {NEEDED_MAJOR}"
    return None
