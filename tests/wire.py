"""A connection between a client and a server that a test can cut and restore."""

import socket
import threading
from contextlib import suppress


class Wire:
    """Forwards a local port to a server, until it is cut.

    Args:
        host: of the server.
        port: of the server.

    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._connected = True
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut_after: int | None = None
        self.answered = 0
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and refuse new ones."""
        self._connected = False
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int) -> None:
        """Cut when the server has answered this many bytes from now on."""
        self.answered = 0
        self._cut_after = count

    def join(self) -> None:
        """Accept new connections."""
        self._cut_after = None
        self._connected = True

    def freeze(self) -> None:
        """Keep connections open, and accept new ones, but pass nothing on."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass everything on again."""
        self._flowing.set()

    def close(self) -> None:
        """Close every connection, and the local port."""
        self.thaw()
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._connected:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                self._ends |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward,
                        args=(source, target, source is server),
                        daemon=True,
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
                if is_answer:
                    self.answered += len(data)
                    if self._cut_after is not None and self.answered >= self._cut_after:
                        self.cut()
        for end in (source, target):
            self._ends.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
