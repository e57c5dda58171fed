"""What a search server answers, and what a refusal means.

A refusal is judged by its HTTP status and by the type of the error, never by its text. This is the
only place that knows which refusals concern a single document, and which concern the server, the
index or the user.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from tis_sync.errors import IndexUnavailableError, TisSyncError, UnreachableError

CONNECTION_FAILED = 0  # the status of a response that never came
FIRST_ERROR_STATUS = 400
FIRST_SERVER_ERROR = 500
# Where a server quotes a value of a document, which may itself contain quotation marks.
PREVIEW = re.compile(r"\s*Preview of field's value:.*")
QUOTED = re.compile(r"'.*'|\".*\"")
REASON_LENGTH = 300  # characters of a server's reason that are shown
BLOCK = "cluster_block_exception"  # also the flood stage of a full disk
CLOSED = "index_closed_exception"
SETTING = "TIS_SYNC_SEARCH_URL"


class Refusal(Enum):
    """What a server's refusal means."""

    OVERLOADED = "the server is overloaded or does not answer; it may accept the same later"
    BLOCKED = "an index is blocked or closed, or a disk is full; the same works when that ends"
    GONE = "an index does not exist"
    UNKNOWN_USER = "the server does not accept the user or password"
    FORBIDDEN = "the user lacks a right"
    CONFLICT = "the document has changed since it was read"
    DOCUMENT = "the document, or the request, is wrong"


WORTH_RETRYING = {Refusal.OVERLOADED, Refusal.BLOCKED}
BY_STATUS: Mapping[int, Refusal] = {
    HTTPStatus.UNAUTHORIZED: Refusal.UNKNOWN_USER,
    HTTPStatus.FORBIDDEN: Refusal.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Refusal.GONE,
    HTTPStatus.REQUEST_TIMEOUT: Refusal.OVERLOADED,
    HTTPStatus.CONFLICT: Refusal.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS: Refusal.OVERLOADED,
}


def refusal_of(status: int, error_type: str | None) -> Refusal | None:
    """Decide what a status means; None: it is not a refusal.

    Args:
        status: the HTTP status of a request, or of one of its items.
        error_type: the type of the server's error.

    """
    if status == CONNECTION_FAILED or status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Refusal.OVERLOADED  # 503 is also a block: the cluster has no master
    if status < FIRST_ERROR_STATUS:
        return None
    if error_type in {BLOCK, CLOSED}:
        return Refusal.BLOCKED
    if status >= FIRST_SERVER_ERROR:
        return Refusal.OVERLOADED
    return BY_STATUS.get(status, Refusal.DOCUMENT)


def without_values(reason: str) -> str:
    """Remove what a server quotes from its reason, because it may be personal data.

    The names of fields and types, which it puts in brackets, stay.
    """
    return QUOTED.sub("***", PREVIEW.sub("", reason))


@dataclass(frozen=True)
class Response:
    """What a server answered to one request, or about one item of a bulk request.

    Attributes:
        status: the HTTP status, or 0 if the connection failed.
        data: the decoded body, or the reason why the connection failed.

    """

    status: int
    data: Any

    @classmethod
    def of_item(cls, outcome: Mapping[str, Any]) -> "Response":
        """The answer about one item of a bulk request."""
        return cls(outcome["status"], outcome)

    @property
    def refusal(self) -> Refusal | None:
        """What the refusal means; None if the server did what was asked."""
        error = self._error
        return refusal_of(self.status, error.get("type") if isinstance(error, dict) else None)

    @property
    def reason(self) -> str:
        """Why the request failed, on one line, without values of documents."""
        error = self._error
        if isinstance(error, dict):
            error = f"{error.get('type')}: {error.get('reason')}"
        text = " ".join(str(error).split())
        if self.status == CONNECTION_FAILED:
            return text[:REASON_LENGTH]
        return f"HTTP {self.status}: {without_values(text)[:REASON_LENGTH]}"

    @property
    def _error(self) -> Any:
        return self.data.get("error") if isinstance(self.data, dict) else self.data


def error_for(response: Response, server: str) -> TisSyncError:
    """The error for a refusal that concerns more than one document.

    Args:
        response: what the server answered.
        server: the server, as the subject of a sentence.

    """
    match response.refusal:
        case Refusal.OVERLOADED:
            return UnreachableError(
                f"{server} does not answer ({response.reason}); check that it is running, and "
                f"check {SETTING}. The existing index stays as it is."
            )
        case Refusal.BLOCKED:
            return IndexUnavailableError(
                f"{server} refuses access to an index: a disk is full, or the index is blocked or "
                f"closed ({response.reason}). Free disk space, lift the block or open the index. "
                "The existing index stays as it is."
            )
        case Refusal.GONE:
            return IndexUnavailableError(
                f"{server}: the index no longer exists ({response.reason}). Run the job again: it "
                "builds a new index."
            )
        case Refusal.UNKNOWN_USER:
            return UnreachableError(f"{server} refuses the user or password; check {SETTING}.")
        case Refusal.FORBIDDEN:
            return TisSyncError(
                f"{server}: the user lacks a right ({response.reason}). Grant it, or change the "
                f"user in {SETTING}."
            )
        case _:
            return TisSyncError(f"{server} refuses a request: {response.reason}.")
