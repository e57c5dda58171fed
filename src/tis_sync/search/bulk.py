"""Bulk writing: send documents to a search server in chunks, and retry what it refuses.

Chunks are cut by bytes. What the server refuses temporarily (429, 5xx or a broken connection, for a
whole request or some of its items) is sent again after increasing waits, with fewer requests in
flight; so is what it refuses because an index is blocked or a disk is full. A chunk that is too
large (413) is halved, and the size that failed is remembered. A document that the server refuses
permanently (400 for its item) costs only that document. If a chunk cannot be delivered in time, or
the refusal concerns more than a document, the whole delivery fails: an incomplete index is never
published.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import polars as pl

from tis_sync.errors import DeliveryError, PlanOutdatedError
from tis_sync.search.concurrency import ConcurrencyLimiter
from tis_sync.search.model import Delivery
from tis_sync.search.response import WORTH_RETRYING, Refusal, Response, error_for

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
INDEX_LINE = '{"index":{"_id":"'
LINE_BYTES = len(INDEX_LINE) + len('"}}\n') + len("\n")
VERSION_BYTES = len(',"if_seq_no":,"if_primary_term":') + 2 * len(str(2**63))
VERSION = ("seq_no", "primary_term")
DELETES_PER_CHUNK = 20_000
SERVER = "The search server"


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
        self,
        call: BulkCall,
        documents: Iterable[pl.DataFrame],
        deletes: pl.DataFrame | None = None,
    ) -> Delivery:
        """Write documents, and once all of them are written, delete documents.

        Frames are consumed lazily: one chunk waits while others are in flight, so there is always
        one ready to send, and never many in memory.

        Args:
            call: sends a body to the index.
            documents: frames with the columns id and body (String), and maybe those of a version;
                see `encode`.
            deletes: a frame with the column id (String), and maybe those of a version.

        Raises:
            DeliveryError: the server refused a chunk for longer than `retry_timeout_seconds`.
            IndexUnavailableError: the index is gone, or was blocked for that time.
            PlanOutdatedError: documents no longer have the given versions; all others are written.
            TisSyncError: the user lacks a right.

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
        for chunk in () if deletes is None else deletes.iter_slices(DELETES_PER_CHUNK):
            self._send(call, chunk, delivery)
        if delivery.conflicts:
            raise PlanOutdatedError(
                f"{delivery.conflicts:,} documents of the index changed after the plan was made"
            )
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
                refused = self._settle(part, response, delivery)
                if refused is None:
                    refusals = 0
                    continue
                part, response = refused
            elif response.refusal not in WORTH_RETRYING:
                raise error_for(response, SERVER)
            self.limiter.refused()
            refusals += 1
            if self.clock() > deadline:
                if response.refusal == Refusal.BLOCKED:
                    raise error_for(response, SERVER)
                raise DeliveryError(
                    f"{SERVER} kept refusing documents for {self.retry_timeout_seconds:.0f} s "
                    f"(last: {response.reason}). Nothing was published; the old index is still in "
                    "use."
                )
            self.sleep(_wait_seconds(refusals))
            todo.append(part)

    def _settle(
        self, part: pl.DataFrame, response: Response, delivery: Delivery
    ) -> tuple[pl.DataFrame, Response] | None:
        """Count what the server wrote, what it refused permanently, and conflicts.

        Returns:
            The documents to send again, and the answer about one of them. None: there are none.

        """
        again: tuple[pl.DataFrame, Response] | None = None
        bad: list[tuple[str, str]] = []
        conflicts = 0
        if response.data.get("errors"):
            # Without an error, the status 404 only means that there was nothing to delete.
            answers = [
                Response.of_item(o) if "error" in o else Response(HTTPStatus.OK, None)
                for o in (next(iter(item.values())) for item in response.data["items"])
            ]
            refusals = [answer.refusal for answer in answers]
            for answer, refusal in zip(answers, refusals, strict=True):
                if refusal not in {None, Refusal.DOCUMENT, Refusal.CONFLICT, *WORTH_RETRYING}:
                    raise error_for(answer, SERVER)
            conflicts = refusals.count(Refusal.CONFLICT)
            bad = [
                (identity, answer.reason)
                for identity, answer in zip(part["id"], answers, strict=True)
                if answer.refusal == Refusal.DOCUMENT
            ]
            retried = [refusal in WORTH_RETRYING for refusal in refusals]
            if any(retried):
                again = part.filter(pl.Series(retried)), answers[retried.index(True)]
        accepted = part.height - len(bad) - conflicts - (again[0].height if again else 0)
        with self._lock:
            if "body" in part.columns:
                delivery.written += accepted
            else:
                delivery.deleted += accepted
            delivery.refused += bad
            delivery.conflicts += conflicts
        return again

    def _lower_chunk_bytes(self, failed_bytes: int) -> None:
        with self._lock:
            self.chunk_bytes = min(self.chunk_bytes, max(1, failed_bytes // 2))


def _raise_failures(done: Iterable[Future[None]]) -> None:
    for future in done:
        future.result()


def cut(documents: pl.DataFrame, chunk_bytes: int) -> Iterator[pl.DataFrame]:
    """Cut documents into chunks of about the same size.

    Args:
        documents: a frame with the columns id and body (String), and maybe those of a version.
        chunk_bytes: the largest encoded chunk. Only a single document may be larger.

    """
    if documents.is_empty():
        return
    version = [name for name in VERSION if name in documents.columns]
    line_bytes = LINE_BYTES + (VERSION_BYTES if version else 0)
    sized = documents.select(
        "id",
        "body",
        *version,
        _bytes=pl.col("id").str.len_bytes() + pl.col("body").str.len_bytes() + line_bytes,
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
        chunk: a frame with the columns id and body (String) to index documents, or with only id to
            delete them. With the columns seq_no and primary_term (Int64), the server refuses what
            does not have this version; null means that there must be no such document yet.

    """
    with_versions = VERSION[0] in chunk.columns
    if "body" not in chunk.columns:
        # These ids may be those of others, so they are escaped.
        fields = [pl.col("id").alias("_id")]
        if with_versions:
            fields += [pl.col(name).alias(f"if_{name}") for name in VERSION]
        line = pl.struct(fields).struct.json_encode()
        lines = pl.concat_str(pl.lit('{"delete":'), line, pl.lit("}\n"))
    elif with_versions:
        version = pl.concat_str(
            pl.lit('","if_seq_no":'), "seq_no", pl.lit(',"if_primary_term":'), "primary_term"
        )
        action = (
            pl.when(pl.col("seq_no").is_null())
            .then(pl.concat_str(pl.lit('{"create":{"_id":"'), "id", pl.lit('"')))
            .otherwise(pl.concat_str(pl.lit(INDEX_LINE), "id", version))
        )
        lines = pl.concat_str(action, pl.lit("}}\n"), "body", pl.lit("\n"))
    else:
        lines = pl.concat_str(pl.lit(INDEX_LINE), "id", pl.lit('"}}\n'), "body", pl.lit("\n"))
    # Take the bytes from Polars: a Python string with non-BMP characters needs four times as much.
    body: bytes = chunk.select(lines.str.join("").cast(pl.Binary)).item()
    return body


def _wait_seconds(refusals: int) -> float:
    """The next wait: doubled up to a limit, with jitter so that threads do not retry in step."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**refusals)
    return random.uniform(longest / 2, longest)  # noqa: S311
