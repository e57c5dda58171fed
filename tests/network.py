"""A TCP relay in front of a real server that can refuse, hang, cut and delay connections."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

CHUNK_BYTES = 65_536
DELAY_SECONDS = 0.02  # for each chunk, if the relay is slow
POLL_SECONDS = 0.05


class Fault(Enum):
    """What the relay does."""

    NONE = "passes everything on"
    REFUSE = "resets open connections and new ones"
    HANG = "passes nothing on, and answers nothing"
    CUT = "passes requests on, and cuts the connection instead of the answer"
    SLOW = "delays everything"


class Relay:
    """Passes bytes between clients and one server, as `fault` says at the moment.

    Attributes:
        port: the port on 127.0.0.1 that clients connect to.
        hit: how many times a fault has affected a connection.

    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._fault = Fault.NONE
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._server.getsockname()[1])
        self.hit = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.REFUSE:
            self.reset()

    def reset(self) -> None:
        """Cut all open connections."""
        with self._lock:
            broken, self._open = self._open, set()
        for connection in broken:
            self.hit += 1
            _close(connection)

    def close(self) -> None:
        self._server.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._fault is Fault.REFUSE:
                self.hit += 1
                _close(client)
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        for source, sink, answers in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pass, args=(source, sink, answers), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if self._fault is Fault.HANG:
                    self.hit += 1
                    while self._fault is Fault.HANG:
                        time.sleep(POLL_SECONDS)
                if self._fault is Fault.CUT and answers:
                    self.hit += 1
                    break
                if self._fault is Fault.SLOW:
                    self.hit += 1
                    time.sleep(DELAY_SECONDS)
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _close(source)
        _close(sink)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def relay(host: str, port: int) -> Iterator[Relay]:
    """Run a relay in front of a server while the block lasts."""
    running = Relay(host, port)
    try:
        yield running
    finally:
        running.close()
