"""The HTTP server: uvicorn, which ends live updates first when it is asked to stop."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from tis_sync.runs.services import Services

STOP_SECONDS = 5  # for answers that are being sent


class Server(uvicorn.Server):
    """An HTTP server for the application.

    Args:
        app: the application, from `tis_sync.web.app.create_app`.
        host: the address to listen on.
        port: the port to listen on.

    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        services: Services = app.state.services
        super().__init__(
            uvicorn.Config(
                app,
                host,
                port,
                log_config=None,
                access_log=False,  # a URL of the sign-in contains a code
                server_header=False,
                # Never whom the environment names (FORWARDED_ALLOW_IPS), or this machine: a client
                # whose header is believed chooses the address by which its requests are counted.
                forwarded_allow_ips=list(services.settings.web_proxies),
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._stop_feeds: Callable[[], None] = app.state.feeds.stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End live updates, then everything else."""
        self._stop_feeds()
        await super().shutdown(sockets)
