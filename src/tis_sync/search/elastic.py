"""Elasticsearch 8, through its official client."""

from collections.abc import Mapping
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from tis_sync.search.response import CONNECTION_FAILED, Response

PRODUCT = "Elasticsearch"
NEEDED_MAJOR = "8"


class ElasticTransport:
    """`Transport` over the official client.

    Args:
        url: http(s)://USER:PASSWORD@HOST:PORT.
        address: the same without the user and the password, for messages.
        timeout: how long to wait for an answer, in seconds.
        connections: the maximum number of concurrent requests.

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
    ) -> Response:
        """Send one request; the status of the response is 0 if the connection failed."""
        try:
            answer = self._client.perform_request(method, path, headers=headers, body=body)
        except ApiError as error:
            return Response(error.meta.status, error.body)
        except UnsupportedProductError:
            # The client itself checks this only once; `unsupported` reports it in our words.
            return Response(200, {"version": {"number": "?"}, "tagline": "not Elasticsearch"})
        except TransportError as error:
            return Response(CONNECTION_FAILED, str(error))
        return Response(answer.meta.status, answer.body)


def unsupported(description: Mapping[str, Any]) -> str | None:
    """Why a server cannot be used, given its answer to GET /; None if it can be used."""
    version = description.get("version", {})
    number = str(version.get("number"))
    if version.get("distribution") == "opensearch":
        return f"this is OpenSearch {number}; its URL begins with opensearch+http"
    if number.split(".")[0] != NEEDED_MAJOR:
        return f"version {number} is not supported; use {PRODUCT} {NEEDED_MAJOR}"
    return None
