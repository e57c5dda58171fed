"""A proxy in front of a real search server that causes faults on purpose."""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = str
"""none, 429, 503, 413, items (some items 429), cut (before the server), cut-after, slow; the user
lacks a right: 403, items-403."""
KINDS = {"429": "es_rejected_execution_exception", "403": "security_exception"}
DROPPED = {"host", "connection", "content-length"}
Choose = Callable[[bytes], Fault]


class Proxy:
    """Forwards every request; `choose` decides what happens to each bulk request."""

    def __init__(self, target: str, choose: Choose) -> None:
        self.target = urlsplit(target)
        self.choose = choose
        self.faults: Counter[Fault] = Counter()
        self.largest = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, reply.getheaders(), data


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        is_bulk = "/_bulk" in self.path
        fault = self.proxy.choose(body) if is_bulk else "none"
        with self.proxy.lock:
            self.proxy.faults[fault if is_bulk else "other"] += 1
            if is_bulk:
                self.proxy.in_flight += 1
                self.proxy.most_in_flight = max(self.proxy.most_in_flight, self.proxy.in_flight)
        try:
            self._act(fault, body)
        finally:
            if is_bulk:
                with self.proxy.lock:
                    self.proxy.in_flight -= 1

    def _act(self, fault: Fault, body: bytes) -> None:
        if fault == "cut":
            self._cut()
            return
        if fault in {"429", "503", "413", "403"}:
            kind = KINDS.get(fault, "trouble")
            error = {"error": {"type": kind, "reason": "made by the proxy"}, "status": int(fault)}
            self._answer(int(fault), [], json.dumps(error).encode())
            return
        if fault == "items-403":
            error = {"type": KINDS["403"], "reason": "made by the proxy"}
            count = len(body.splitlines()) // 2
            items = [{"index": {"status": 403, "error": error}}] * count
            self._answer(200, [], json.dumps({"errors": True, "items": items}).encode())
            return
        if fault == "slow":
            time.sleep(0.4)
        with self.proxy.lock:
            self.proxy.largest = max(self.proxy.largest, len(body))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in DROPPED}
        if fault == "items":
            self._some_items(body, headers)
            return
        status, reply_headers, data = self.proxy.forward(self.command, self.path, body, headers)
        if fault == "cut-after":
            self._cut()
            return
        self._answer(status, reply_headers, data)

    def _some_items(self, body: bytes, headers: dict[str, str]) -> None:
        lines = body.splitlines(keepends=True)
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        refused = [random.random() < 0.5 for _ in pairs]
        sent = b"".join(a + b for (a, b), no in zip(pairs, refused, strict=True) if not no)
        taken: list[dict[str, object]] = []
        reply_headers: list[tuple[str, str]] = [("x-elastic-product", "Elasticsearch")]
        if sent:
            _, reply_headers, data = self.proxy.forward("POST", self.path, sent, headers)
            taken = json.loads(data)["items"]
        answers = iter(taken)
        items = [
            {
                "index": {
                    "_id": json.loads(action)["index"]["_id"],
                    "status": 429,
                    "error": {
                        "type": "es_rejected_execution_exception",
                        "reason": "made by the proxy",
                    },
                }
            }
            if no
            else next(answers)
            for (action, _), no in zip(pairs, refused, strict=True)
        ]
        answer = json.dumps({"errors": any(refused), "items": items}).encode()
        self._answer(200, reply_headers, answer)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response(status)
        kept = {k.lower(): v for k, v in headers}
        self.send_header("content-type", kept.get("content-type", "application/json"))
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle


@contextmanager
def proxy(target: str, choose: Choose) -> Iterator[tuple[str, Proxy]]:
    """Run a proxy in front of `target`; yield its address, and the proxy with its counts."""
    counting = Proxy(target, choose)
    handler = type("Handler", (_Handler,), {"proxy": counting})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", counting
    finally:
        server.shutdown()
        server.server_close()


def sometimes(*faults: Fault, seed: int = 1, share: float = 0.6) -> Choose:
    """Choose one of the given faults for a share of the bulk requests."""
    drawn = random.Random(seed)
    lock = threading.Lock()

    def choose(_: bytes) -> Fault:
        with lock:
            return drawn.choice(faults) if drawn.random() < share else "none"

    return choose
