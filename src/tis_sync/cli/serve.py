"""The console: pages, API, scheduler and worker in one process; or pages and API alone."""

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tis_sync import __version__, logs
from tis_sync.cli.app import app, leave, until_told_to_stop
from tis_sync.errors import UsageError
from tis_sync.runs.schedule import times
from tis_sync.runs.services import Services
from tis_sync.runs.session import session
from tis_sync.settings import Settings, load_settings
from tis_sync.web.app import BASE, create_app
from tis_sync.web.server import Server

PORT = 8101


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to answer on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to answer on.")] = PORT,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only answer; workers elsewhere do the work.")
    ] = False,
) -> None:
    """Show the console under /sync/, and run jobs as `work` does, until told to stop."""
    settings = load_settings()
    _may_answer(host, settings)
    times(settings)
    logs.configure(settings, level="DEBUG" if "--debug" in sys.argv else "INFO")
    # uvicorn hands on the signal that ended it; here it must not end us before work is put back.
    with until_told_to_stop(), _services(settings, works=not no_worker) as services:
        server = Server(create_app(services), host, port)
        logs.get().info("console", url=f"http://{host}:{port}{BASE}/", version=__version__)
        server.run()
        logs.get().info("console stops")
    leave()


@contextmanager
def _services(settings: Settings, *, works: bool) -> Iterator[Services]:
    if works:
        with session(settings, scheduler=True) as services:
            yield services
        return
    services = Services(settings)
    try:
        yield services
    finally:
        services.close()


def _may_answer(host: str, settings: Settings) -> None:
    """Refuse other addresses than this machine's own where nobody signs in.

    Raises:
        UsageError: the address could be reached from elsewhere, or is none.

    """
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UsageError(f"--host {host!r} is no address; for example 127.0.0.1.") from None
    if not here and settings.oidc_issuer is None:
        raise UsageError(
            f"--host {host!r}: without sign-in the console answers on this machine only; accepted "
            "are 127.0.0.1 and localhost. For others, set TIS_SYNC_OIDC_ISSUER; or use an SSH "
            "tunnel."
        )
