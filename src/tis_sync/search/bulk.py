"""Deliver documents to a search server in chunks that it takes, or fail and say why.

A chunk is cut by bytes. What a server refuses for the moment (429, 5xx, a broken connection; a
whole request or single items of it) is sent again after growing waits, with less pressure. A
chunk that is too large (413) is halved, and the size that failed is remembered. What can never be
taken (400 on an item) costs that document. A chunk that cannot be delivered in time fails the
whole delivery: nothing incomplete is ever published.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from tis_sync.errors import DeliveryError
from tis_sync.search.model import Delivery
from tis_sync.search.pressure import Pressure

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
PASSING = {429, 500, 502, 503, 504}  # statuses that pass by themselves
TOO_LARGE = 413
MISSING = 404
FAILED = 400  # this status, and those above
INDEX_LINE = '{"index":{"_id":"'
DELETE_LINE = '{"delete":{"_id":"'
LINE_BYTES = len(INDEX_LINE) + len('"}}\n') + len("\n")
DELETES_A_CHUNK = 20_000


@dataclass(frozen=True)
class Reply:
    """What a server said to one request.

    Attributes:
        status: the HTTP status; 0 when the connection failed.
        data: the decoded body, or the reason of a failed connection.

    """

    status: int
    data: Any

    @property
    def reason(self) -> str:
        """Why the request failed, in one line."""
        error = self.data.get("error") if isinstance(self.data, dict) else self.data
        if isinstance(error, dict):
            error = f"{error.get('type')}: {error.get('reason')}"
        text = " ".join(str(error).split())[:300]
        return f"HTTP {self.status}: {text}" if self.status else text


class BulkCall(Protocol):
    """Send one bulk body to an index and give the reply; never raises for what a server says."""

    def __call__(self, body: bytes) -> Reply: ...  # noqa: D102


@dataclass
class Courier:
    """Delivers to one server; shared by all threads of a process that write to it.

    Attributes:
        pressure: the limit on requests under way.
        chunk_bytes: the largest body; lowered when the server finds one too large.
        patience_seconds: how long one chunk is tried again.
        clock, sleep: seconds; parameters so that tests need no time.

    """

    pressure: Pressure
    chunk_bytes: int
    patience_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deliver(
        self, call: BulkCall, documents: Iterable[pl.DataFrame], deletes: Sequence[str] = ()
    ) -> Delivery:
        """Write documents (id, body), and when all are in, delete ids.

        Frames of documents are taken as they are needed: one chunk waits while others are on
        their way, so that there is always one to send, and never many in memory.

        Raises:
            DeliveryError: a chunk was refused for longer than the patience, or for good.

        """
        delivery = Delivery()
        threads = ThreadPoolExecutor(self.pressure.most, thread_name_prefix="bulk")
        try:
            under_way: set[Future[None]] = set()
            for part in documents:
                for chunk in cut(part, self.chunk_bytes):
                    if len(under_way) > self.pressure.most:
                        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                        _raise_failures(done)
                    under_way.add(threads.submit(self._send, call, chunk, delivery))
            _raise_failures(as_completed(under_way))
        finally:
            threads.shutdown(cancel_futures=True)
        for start in range(0, len(deletes), DELETES_A_CHUNK):
            gone = pl.DataFrame(
                {"id": list(deletes[start : start + DELETES_A_CHUNK])}, schema={"id": pl.String}
            )
            self._send(call, gone, delivery)
        return delivery

    def _send(self, call: BulkCall, chunk: pl.DataFrame, delivery: Delivery) -> None:
        """Deliver one chunk, whatever it takes within the patience."""
        todo = [chunk]
        deadline = self.clock() + self.patience_seconds
        refusals = 0
        while todo:
            part = todo.pop()
            body = encode(part)
            with self.pressure.slot():
                reply = call(body)
            if reply.status == TOO_LARGE:
                self._learn(len(body))
                if part.height == 1:
                    with self._lock:
                        delivery.refused.append((part["id"][0], "is larger than the server takes"))
                else:
                    half = part.height // 2
                    todo += [part.head(half), part.tail(part.height - half)]
                continue
            if reply.status == 200:
                part, reason = self._settle(part, reply, delivery)
                if part.is_empty():
                    refusals = 0
                    continue
            elif reply.status in PASSING or reply.status == 0:
                reason = reply.reason
            else:
                raise DeliveryError(f"The search server refuses documents: {reply.reason}.")
            self.pressure.refused()
            refusals += 1
            if self.clock() > deadline:
                raise DeliveryError(
                    f"The search server kept refusing documents for {self.patience_seconds:.0f} s "
                    f"(last: {reason}). Nothing was published; the old index still serves."
                )
            self.sleep(_wait_seconds(refusals))
            todo.append(part)

    def _settle(
        self, part: pl.DataFrame, reply: Reply, delivery: Delivery
    ) -> tuple[pl.DataFrame, str]:
        """Book what the server took and what it never will; return what is to be sent again."""
        is_delete = "body" not in part.columns
        if not reply.data.get("errors"):
            again, refused, reason = part.clear(), [], ""
        else:
            outcomes = [next(iter(item.values())) for item in reply.data["items"]]
            status = pl.Series([o["status"] for o in outcomes], dtype=pl.Int64)
            passing = status.is_in(sorted(PASSING))
            again = part.filter(passing)
            reason = next((_reason(o) for o in outcomes if o["status"] in PASSING), "")
            bad = [
                (identity, o)
                for identity, o in zip(part["id"], outcomes, strict=True)
                if o["status"] >= FAILED
                and o["status"] not in PASSING
                and not (is_delete and o["status"] == MISSING)
            ]
            lost = next((o for _, o in bad if o["status"] == MISSING), None)
            if lost:
                raise DeliveryError(f"The index is gone: {_reason(lost)}.")
            refused = [(identity, _reason(o)) for identity, o in bad]
        taken = part.height - again.height - len(refused)
        with self._lock:
            if is_delete:
                delivery.deleted += taken
            else:
                delivery.written += taken
            delivery.refused += refused
        return again, reason

    def _learn(self, failed_bytes: int) -> None:
        with self._lock:
            self.chunk_bytes = min(self.chunk_bytes, max(1, failed_bytes // 2))


def _reason(outcome: Any) -> str:
    """Why one document was not taken."""
    return Reply(outcome["status"], outcome).reason


def _raise_failures(done: Iterable[Future[None]]) -> None:
    for future in done:
        future.result()


def cut(documents: pl.DataFrame, chunk_bytes: int) -> Iterator[pl.DataFrame]:
    """Cut documents (id, body) into even chunks whose encoded form is at most `chunk_bytes` long.

    Only a document that is longer by itself makes a longer chunk.
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
    # A group may pass its share by the document that crosses the border, so leave room for one.
    most = max(1, chunk_bytes - longest)
    # Of about the same size: a small one at the end would leave the server idle beside it.
    share = -(-ends[-1] // -(-ends[-1] // most))
    groups = ((ends - 1) // share).rle().struct.field("len")
    start = 0
    for length in groups:
        yield sized.slice(start, length).drop("_bytes")
        start += length


def encode(chunk: pl.DataFrame) -> bytes:
    """The bulk body of a chunk: an index action a document, or a delete action an id."""
    if "body" in chunk.columns:
        lines = pl.concat_str(pl.lit(INDEX_LINE), "id", pl.lit('"}}\n'), "body", pl.lit("\n"))
    else:
        lines = pl.concat_str(pl.lit(DELETE_LINE), "id", pl.lit('"}}\n'))
    # As bytes from Polars: a Python text of characters beyond the first plane is four times as big.
    body: bytes = chunk.select(lines.str.join("").cast(pl.Binary)).item()
    return body


def _wait_seconds(refusals: int) -> float:
    """Twice as long each time, up to a limit; with jitter, so that threads don't march in step."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**refusals)
    return random.uniform(longest / 2, longest)  # noqa: S311
