"""The console: API, scheduler and worker in one process."""

import ipaddress
import sys
from typing import Annotated

import typer
import uvicorn

from tis_sync import __version__, logs
from tis_sync.cli.app import app
from tis_sync.errors import UsageError
from tis_sync.runs.schedule import times
from tis_sync.runs.session import session
from tis_sync.settings import load_settings
from tis_sync.web.app import BASE, create_app

PORT = 8101


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to answer on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to answer on.")] = PORT,
) -> None:
    """Answer by HTTP under /sync, and run jobs as `work` does, until told to stop."""
    _loopback(host)
    settings = load_settings()
    times(settings)
    logs.configure(settings, level="DEBUG" if "--debug" in sys.argv else "INFO")
    with session(settings, scheduler=True) as services:
        made = create_app(services)
        logs.get().info("console", url=f"http://{host}:{port}{BASE}/", version=__version__)
        config = uvicorn.Config(made, host, port, log_config=None, server_header=False)
        uvicorn.Server(config).run()


def _loopback(host: str) -> None:
    """Refuse other addresses than this machine's own: nobody signs in yet.

    Raises:
        UsageError: the address could be reached from elsewhere, or is none.

    """
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise UsageError(
            f"--host {host!r}: without sign-in the console answers on this machine only; accepted "
            "are 127.0.0.1 and localhost. From elsewhere: an SSH tunnel."
        )
