"""The HTTP server: uvicorn, which ends live updates first when it is asked to stop."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

STOP_SECONDS = 5  # for answers that are being sent


class Server(uvicorn.Server):
    """An HTTP server for the application.

    Args:
        app: the application, from `tis_sync.web.app.create_app`.
        host: the address to listen on.
        port: the port to listen on.

    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host,
                port,
                log_config=None,
                access_log=False,  # a URL of the sign-in contains a code
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._stop_feeds: Callable[[], None] = app.state.feeds.stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End live updates, then everything else."""
        self._stop_feeds()
        await super().shutdown(sockets)
