"""A notification channel: an HTTP server that accepts, refuses or leaves requests unanswered."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mood(Enum):
    """What the channel does with a request."""

    ACCEPT = 200
    REFUSE = 500
    HANG = 0  # the request is read and never answered


class ChannelServer:
    """A channel for Apprise's `json://`.

    Attributes:
        mood: what it does with the next requests.
        react: called with each request before it is answered; may return another mood for it.
        accepted: the messages that it accepted.
        attempts: how many requests it received.

    """

    def __init__(self) -> None:
        self.mood = Mood.ACCEPT
        self.react: Callable[[dict[str, str]], Mood | None] = lambda _: None
        self.accepted: list[dict[str, str]] = []
        self.attempts = 0
        self.released = threading.Event()
        channel = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                channel.attempts += 1
                mood = channel.react(message) or channel.mood
                if mood is Mood.HANG:
                    channel.released.wait()
                    return
                if mood is Mood.ACCEPT:
                    channel.accepted.append(message)
                self.send_response(mood.value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        """Its Apprise URL, with a secret in it. Apprise waits a second for an answer."""
        return f"json://user:hunter2@127.0.0.1:{self.server.server_address[1]}/?cto=1&rto=1"

    @property
    def titles(self) -> list[str]:
        return [message["title"].removeprefix("tis-sync: ") for message in self.accepted]


@contextmanager
def channel_server() -> Iterator[ChannelServer]:
    """Serve a channel while the block lasts."""
    channel = ChannelServer()
    threading.Thread(target=channel.server.serve_forever, daemon=True).start()
    try:
        yield channel
    finally:
        channel.released.set()
        channel.server.shutdown()
        channel.server.server_close()
