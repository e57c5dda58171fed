"""The HTTP server: uvicorn, told to let go of live viewers when it is asked to stop."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

STOP_SECONDS = 5  # for answers under way


class Server(uvicorn.Server):
    """An HTTP server for the application.

    Args:
        app: what `tis_sync.web.app.create_app` made.
        host: address to answer on.
        port: port to answer on.

    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                # No access log: addresses may hold what signs somebody in.
                app, host, port, log_config=None, access_log=False, server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )  # fmt: skip
        self._let_go: Callable[[], None] = app.state.live.stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End live updates, then the rest."""
        self._let_go()
        await super().shutdown(sockets)
