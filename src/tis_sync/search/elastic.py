"""Elasticsearch 8, through its official client."""

from collections.abc import Mapping
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from tis_sync.search.bulk import Reply

PRODUCT = "Elasticsearch"
NEEDED_MAJOR = "8"


class ElasticTransport:
    """`Transport` over the official client.

    Args:
        url: http(s)://USER:PASSWORD@HOST:PORT.
        address: the same as it may be shown.
        timeout: seconds to wait for an answer.
        connections: how many requests may be under way.

    """

    product = PRODUCT

    def __init__(self, url: str, address: str, timeout: float, connections: int) -> None:
        self.address = address
        self._client = Elasticsearch(
            url,
            request_timeout=timeout,
            max_retries=0,
            retry_on_timeout=False,
            connections_per_node=connections,
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
            answer = self._client.perform_request(method, path, headers=headers, body=body)
        except ApiError as error:
            return Reply(error.meta.status, error.body)
        except UnsupportedProductError:
            # The client looks at this only once; `unsupported` says it in our words.
            return Reply(200, {"version": {"number": "?"}, "tagline": "not Elasticsearch"})
        except TransportError as error:
            return Reply(0, str(error))
        return Reply(answer.meta.status, answer.body)


def unsupported(described: Mapping[str, Any]) -> str | None:
    """Why the server that describes itself so (GET /) cannot be used; None: it can."""
    version = described.get("version", {})
    number = str(version.get("number"))
    if version.get("distribution") == "opensearch":
        return f"this is OpenSearch {number}; its URL begins with opensearch+http"
    if number.split(".")[0] != NEEDED_MAJOR:
        return f"version {number} is not supported, {PRODUCT} {NEEDED_MAJOR} is"
    return None
