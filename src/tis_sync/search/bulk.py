"""Bulk writing: send documents to a search server in chunks, and retry what it refuses.

Chunks are cut by bytes. What the server refuses temporarily (429, 5xx or a broken connection, for a
whole request or some of its items) is sent again after increasing waits, with fewer requests in
flight. A chunk that is too large (413) is halved, and the size that failed is remembered. A
document that the server refuses permanently (400 for its item) costs only that document. If a chunk
cannot be delivered in time, the whole delivery fails: an incomplete index is never published.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import DeliveryError
from tis_sync.search.concurrency import ConcurrencyLimiter
from tis_sync.search.model import Delivery

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
CONNECTION_FAILED = 0  # the status of a response that never came
TRANSIENT_STATUSES = {429, 500, 502, 503, 504}
FIRST_ERROR_STATUS = 400
INDEX_LINE = '{"index":{"_id":"'
DELETE_LINE = '{"delete":{"_id":"'
LINE_BYTES = len(INDEX_LINE) + len('"}}\n') + len("\n")
DELETES_PER_CHUNK = 20_000
REASON_LENGTH = 300  # characters of a server's reason that are shown


@dataclass(frozen=True)
class Response:
    """What a server answered to one request.

    Attributes:
        status: the HTTP status, or 0 if the connection failed.
        data: the decoded body, or the reason why the connection failed.

    """

    status: int
    data: Any

    @property
    def reason(self) -> str:
        """Why the request failed, on one line."""
        error = self.data.get("error") if isinstance(self.data, dict) else self.data
        if isinstance(error, dict):
            error = f"{error.get('type')}: {error.get('reason')}"
        text = " ".join(str(error).split())[:REASON_LENGTH]
        return text if self.status == CONNECTION_FAILED else f"HTTP {self.status}: {text}"


class BulkCall(Protocol):
    """Sends one bulk body to an index; never raises, whatever the server answers."""

    def __call__(self, body: bytes) -> Response: ...  # noqa: D102


@dataclass
class BulkWriter:
    """Writes to one server; shared by all threads of a process that write to it.

    Attributes:
        limiter: limits the requests in flight.
        chunk_bytes: the largest body; lowered when the server refuses a body as too large.
        retry_timeout_seconds: how long one chunk is retried.
        clock, sleep: in seconds; parameters, so that tests need not wait.

    """

    limiter: ConcurrencyLimiter
    chunk_bytes: int
    retry_timeout_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deliver(
        self, call: BulkCall, documents: Iterable[pl.DataFrame], deletes: Sequence[str] = ()
    ) -> Delivery:
        """Write documents, and once all of them are written, delete documents by id.

        Frames are consumed lazily: one chunk waits while others are in flight, so there is always
        one ready to send, and never many in memory.

        Args:
            call: sends a body to the index.
            documents: frames with the columns id and body (String).
            deletes: ids of documents to delete.

        Raises:
            DeliveryError: the server refused a chunk for longer than `retry_timeout_seconds`, or
                permanently.

        """
        delivery = Delivery()
        threads = ThreadPoolExecutor(self.limiter.most, thread_name_prefix="bulk")
        try:
            under_way: set[Future[None]] = set()
            for frame in documents:
                for chunk in cut(frame, self.chunk_bytes):
                    if len(under_way) > self.limiter.most:
                        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                        _raise_failures(done)
                    under_way.add(threads.submit(self._send, call, chunk, delivery))
            _raise_failures(as_completed(under_way))
        finally:
            threads.shutdown(cancel_futures=True)
        for start in range(0, len(deletes), DELETES_PER_CHUNK):
            ids = list(deletes[start : start + DELETES_PER_CHUNK])
            self._send(call, pl.DataFrame({"id": ids}, schema={"id": pl.String}), delivery)
        return delivery

    def _send(self, call: BulkCall, chunk: pl.DataFrame, delivery: Delivery) -> None:
        """Deliver one chunk, in as many requests as it takes within the retry timeout."""
        todo = [chunk]
        deadline = self.clock() + self.retry_timeout_seconds
        refusals = 0
        while todo:
            part = todo.pop()
            body = encode(part)
            with self.limiter.slot():
                response = call(body)
            if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                self._lower_chunk_bytes(len(body))
                if part.height == 1:
                    with self._lock:
                        delivery.refused.append(
                            (part["id"][0], "is larger than the server accepts")
                        )
                else:
                    half = part.height // 2
                    todo += [part.head(half), part.tail(part.height - half)]
                continue
            if response.status == HTTPStatus.OK:
                part, reason = self._settle(part, response, delivery)
                if part.is_empty():
                    refusals = 0
                    continue
            elif response.status in {*TRANSIENT_STATUSES, CONNECTION_FAILED}:
                reason = response.reason
            else:
                raise DeliveryError(f"The search server refuses documents: {response.reason}.")
            self.limiter.refused()
            refusals += 1
            if self.clock() > deadline:
                raise DeliveryError(
                    "The search server kept refusing documents for "
                    f"{self.retry_timeout_seconds:.0f} s (last: {reason}). Nothing was published; "
                    "the old index is still in use."
                )
            self.sleep(_wait_seconds(refusals))
            todo.append(part)

    def _settle(
        self, part: pl.DataFrame, response: Response, delivery: Delivery
    ) -> tuple[pl.DataFrame, str]:
        """Count what the server wrote and what it refused permanently.

        Returns:
            The documents to send again, and why.

        """
        is_delete = "body" not in part.columns
        again, reason, refused = part.clear(), "", list[tuple[str, str]]()
        if response.data.get("errors"):
            outcomes = [next(iter(item.values())) for item in response.data["items"]]
            status = pl.Series([o["status"] for o in outcomes], dtype=pl.Int64)
            again = part.filter(status.is_in(sorted(TRANSIENT_STATUSES)))
            reason = next((_reason(o) for o in outcomes if o["status"] in TRANSIENT_STATUSES), "")
            bad = [
                (identity, outcome)
                for identity, outcome in zip(part["id"], outcomes, strict=True)
                if outcome["status"] >= FIRST_ERROR_STATUS
                and outcome["status"] not in TRANSIENT_STATUSES
                and not (is_delete and outcome["status"] == HTTPStatus.NOT_FOUND)
            ]
            for _, outcome in bad:
                if outcome["status"] == HTTPStatus.NOT_FOUND:
                    raise DeliveryError(f"The index no longer exists: {_reason(outcome)}.")
            refused = [(identity, _reason(outcome)) for identity, outcome in bad]
        accepted = part.height - again.height - len(refused)
        with self._lock:
            if is_delete:
                delivery.deleted += accepted
            else:
                delivery.written += accepted
            delivery.refused += refused
        return again, reason

    def _lower_chunk_bytes(self, failed_bytes: int) -> None:
        with self._lock:
            self.chunk_bytes = min(self.chunk_bytes, max(1, failed_bytes // 2))


def _reason(outcome: Any) -> str:
    """Why the server did not write one document."""
    return Response(outcome["status"], outcome).reason


def _raise_failures(done: Iterable[Future[None]]) -> None:
    for future in done:
        future.result()


def cut(documents: pl.DataFrame, chunk_bytes: int) -> Iterator[pl.DataFrame]:
    """Cut documents into chunks of about the same size.

    Args:
        documents: a frame with the columns id and body (String).
        chunk_bytes: the largest encoded chunk. Only a single document may be larger.

    """
    if documents.is_empty():
        return
    sized = documents.select(
        "id",
        "body",
        _bytes=pl.col("id").str.len_bytes() + pl.col("body").str.len_bytes() + LINE_BYTES,
    )
    longest = int(sized["_bytes"].max())  # type: ignore[arg-type]
    ends = sized["_bytes"].cast(pl.Int64).cum_sum()
    # The last document of a group may exceed the limit of the group, so leave room for it.
    most = max(1, chunk_bytes - longest)
    # Make chunks of even size: the server would idle while it handles a small last one.
    share = -(-ends[-1] // -(-ends[-1] // most))
    groups = ((ends - 1) // share).rle().struct.field("len")
    start = 0
    for length in groups:
        yield sized.slice(start, length).drop("_bytes")
        start += length


def encode(chunk: pl.DataFrame) -> bytes:
    """Encode a chunk as the body of a bulk request.

    Args:
        chunk: a frame with the columns id and body (String) to index documents, or with only the
            column id to delete them.

    """
    if "body" in chunk.columns:
        lines = pl.concat_str(pl.lit(INDEX_LINE), "id", pl.lit('"}}\n'), "body", pl.lit("\n"))
    else:
        lines = pl.concat_str(pl.lit(DELETE_LINE), "id", pl.lit('"}}\n'))
    # Take the bytes from Polars: a Python string with non-BMP characters needs four times as much.
    body: bytes = chunk.select(lines.str.join("").cast(pl.Binary)).item()
    return body


def _wait_seconds(refusals: int) -> float:
    """The next wait: doubled up to a limit, with jitter so that threads do not retry in step."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**refusals)
    return random.uniform(longest / 2, longest)  # noqa: S311
