"""A relay for ConnectorX: it gives its connections what it cannot do itself, TLS and a timeout.

ConnectorX reads whole columns fast, but of a MySQL URL it only understands host, port and socket.
So it connects to us, and we connect to the server: with TLS if the URL or the server wants it, and
cutting both connections when the server is silent for too long. Only the handshake is looked at;
after it the relay passes on bytes.

The relay remembers why the server failed, which ConnectorX does not say.
"""

import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tis_sync.db.mysql import MySQLServer

CHUNK_BYTES = 262_144  # passed on at a time
SEQUENCE = 255  # packets are numbered modulo 256
CLIENT_SSL = 0x0800  # the capability, in the greeting and in the answer to it
SSL_REQUEST_BYTES = 32  # the part of the answer that is sent before TLS begins
OK, MORE_DATA, CHANGE_METHOD, ERROR = 0x00, 0x01, 0xFE, 0xFF  # the first byte of a server's packet
ACCEPTED = b"\x01\x03"  # the password is right; the server continues

Packet = tuple[int, bytes]
"""The number and the payload of a packet."""


@dataclass
class Relay:
    """Accepts connections, and passes them on to a server.

    Attributes:
        server: the server.
        address: where ConnectorX connects to: host and port, or the path of a Unix socket.
        ready: a connection for the first client, with the greeting of the server.
        failure: why the server could not be reached, or failed while it was read. None: it did not.

    """

    server: MySQLServer
    address: tuple[str, int] | str
    ready: tuple[socket.socket, Packet] | None
    failure: Exception | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, listener: socket.socket) -> None:
        """Serve every connection in its own thread, until the listener is shut down."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="relay", daemon=True)
            with self._lock:
                self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Cut the connections that are still open, and wait for their threads."""
        with self._lock:
            for connection in self._open:
                _shut(connection)
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        unused = self._take()
        if unused is not None:
            unused[0].close()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(self.server.timeout_seconds)
        with ExitStack() as stack:
            stack.enter_context(client)
            self._register(client, stack)
            try:
                upstream, greeting = self._take() or greeted(self.server)
                stack.enter_context(upstream)
                self._register(upstream, stack)
                upstream = stack.enter_context(self._handshake(client, upstream, greeting))
                self._register(upstream, stack)
                self._pass_on(client, upstream)
            except (OSError, EOFError) as error:  # among them timeouts, and those of TLS
                self.failure = self.failure or error

    def _take(self) -> tuple[socket.socket, Packet] | None:
        with self._lock:
            ready, self.ready = self.ready, None
        return ready

    def _register(self, connection: socket.socket, stack: ExitStack) -> None:
        with self._lock:
            self._open.add(connection)
        stack.callback(self._forget, connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def _handshake(
        self, client: socket.socket, upstream: socket.socket, greeting: Packet
    ) -> socket.socket:
        """Pass on the greeting and the sign-in; return the connection to continue with.

        If TLS begins during the handshake, the client does not know. Its packets and those of the
        server are then numbered differently until the sign-in is over.
        """
        offers_tls = _capabilities(greeting[1]) & CLIENT_SSL
        _send(client, *greeting)
        shift = 0
        number, answer = _receive(client)
        if self.server.tls is not None and offers_tls:
            (asked,) = struct.unpack_from("<I", answer)
            answer = struct.pack("<I", asked | CLIENT_SSL) + answer[4:]
            _send(upstream, number, answer[:SSL_REQUEST_BYTES])
            upstream = self.server.tls.wrap_socket(upstream, server_hostname=self.server.host)
            shift = 1
        elif self.server.tls_required:
            raise ConnectionError("it does not offer TLS")
        _send(upstream, number + shift, answer)
        while True:
            number, packet = _receive(upstream)
            _send(client, number - shift, packet)
            if packet[0] in {OK, ERROR}:
                return upstream
            if packet[0] not in {MORE_DATA, CHANGE_METHOD}:
                raise EOFError("it does not speak the protocol of MySQL")
            if packet != ACCEPTED:
                number, packet = _receive(client)
                _send(upstream, number + shift, packet)

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        """Pass on bytes in both directions until one side closes.

        Raises:
            OSError, EOFError: the server has closed the connection, or is silent for too long.

        """
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, upstream)
            selector.register(upstream, selectors.EVENT_READ, client)
            while True:
                ready = selector.select(self.server.timeout_seconds)
                if not ready:
                    seconds = self.server.timeout_seconds
                    raise TimeoutError(f"it has been silent for {seconds:,.0f} s")
                for key, _ in ready:
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    while (data := self._available(source)) is not None:
                        if not data and source is client:
                            return
                        if not data:
                            raise EOFError("it has closed the connection")
                        target.sendall(data)
                        # What TLS has decrypted beyond this, the selector cannot see.
                        if not isinstance(source, ssl.SSLSocket) or not source.pending():
                            break

    def _available(self, connection: socket.socket) -> bytes | None:
        """What can be read without waiting; None if that is nothing, empty if it is closed.

        A selector may announce a TLS record that contains no data; waiting for the next one would
        keep the other side waiting.
        """
        connection.setblocking(False)
        try:
            return connection.recv(CHUNK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        finally:
            connection.settimeout(self.server.timeout_seconds)


@contextmanager
def relay(server: MySQLServer) -> Iterator[Relay]:
    """Accept connections for a server while the block lasts.

    A client trusts a Unix socket with its password. So it connects to one only if the way to the
    server is safe too: with TLS, or also through a Unix socket.

    Raises:
        OSError, EOFError: the server does not answer, or refuses connections. Here this is known at
            once; ConnectorX would try to connect for half a minute.

    """
    ready = greeted(server)
    with ExitStack() as stack:
        if server.tls_required or server.unix_socket is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="tis-sync-"))
            path = str(Path(folder) / "mysql")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            opened = Relay(server, path, ready)
        else:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            opened = Relay(server, listener.getsockname(), ready)
        stack.enter_context(listener)
        listener.listen()
        stack.callback(opened.close)
        accepting = threading.Thread(
            target=opened.accept, args=(listener,), name="relay", daemon=True
        )
        accepting.start()
        stack.callback(accepting.join)
        stack.callback(_shut, listener)
        yield opened


def greeted(server: MySQLServer) -> tuple[socket.socket, Packet]:
    """Open a connection, and wait for the greeting of the server.

    Raises:
        OSError, EOFError: the server does not answer, or refuses connections.

    """
    connection = server.connect()
    try:
        greeting = _receive(connection)
        if greeting[1][0] == ERROR:
            reason = greeting[1][3:].decode(errors="replace")
            raise EOFError(f"it refuses connections: {reason}")
    except BaseException:
        connection.close()
        raise
    return connection, greeting


def _capabilities(greeting: bytes) -> int:
    """The lower half of the server's capabilities."""
    after_version = greeting.index(b"\0", 1) + 1
    (capabilities,) = struct.unpack_from("<H", greeting, after_version + 4 + 8 + 1)
    return int(capabilities)


def _receive(connection: socket.socket) -> Packet:
    """The number and the payload of the next packet.

    Raises:
        EOFError: the other side has closed the connection.

    """
    header = _exactly(connection, 4)
    payload = _exactly(connection, int.from_bytes(header[:3], "little"))
    if not payload:
        raise EOFError("it sent an empty packet")
    return header[3], payload


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("it has closed the connection")
        data += part
    return data


def _send(connection: socket.socket, number: int, payload: bytes) -> None:
    header = len(payload).to_bytes(3, "little") + bytes([number & SEQUENCE])
    connection.sendall(header + payload)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
