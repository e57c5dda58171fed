"""Commands that run until they are stopped: the worker and the console."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tis_sync import __version__, logs
from tis_sync.app import session
from tis_sync.cli.process import exit_now, log_to_stdout, stop_event, wait_until
from tis_sync.errors import UsageError
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.settings.model import Settings
from tis_sync.web.app import BASE, check_access, create_app
from tis_sync.web.server import Server
from tis_sync.workers.schedule import times

PORT = 8101


def work() -> None:
    """Run jobs at their scheduled times, and everything that is requested, until stopped."""
    settings = load_settings()
    times(settings)  # fails now, not at the first schedule
    log_to_stdout(settings)
    with stop_event() as stop, session(settings, scheduler=True, stop=stop) as s:
        logs.get().info("worker started", worker=s.worker_id, version=__version__)
        wait_until(stop)
        logs.get().info("worker stopping", worker=s.worker_id)
    exit_now()


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = PORT,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Serve the console only; other workers run jobs.")
    ] = False,
) -> None:
    """Serve the console under /sync/, and run jobs as `work` does, until stopped."""
    settings = load_settings()
    _check_host(host, settings)
    check_access(settings)
    times(settings)  # fails now, not at the first schedule
    log_to_stdout(settings)
    # uvicorn re-raises the signal that stopped it. The process must not end before its work is back
    # on the queues.
    with stop_event() as stop, _services(settings, stop, worker=not no_worker) as s:
        server = Server(create_app(s), host, port)
        logs.get().info("console", url=_url(host, port), version=__version__)
        server.run()
        logs.get().info("console stopping")
    exit_now()


def _url(host: str, port: int) -> str:
    """The address of the console on this machine; that of IPv6 is in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{BASE}/"


@contextmanager
def _services(settings: Settings, stop: threading.Event, *, worker: bool) -> Iterator[Services]:
    if worker:
        with session(settings, scheduler=True, stop=stop) as s:
            yield s
        return
    s = Services(settings)
    try:
        yield s
    finally:
        s.close()


def _check_host(host: str, settings: Settings) -> None:
    """Refuse an address that other machines can reach, unless sign-in is required.

    Raises:
        UsageError: other machines can reach the address, or it is not an address.

    """
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UsageError(
            f"--host {host!r} is not an address; use, for example, 127.0.0.1."
        ) from None
    if not is_local and settings.oidc_issuer is None:
        raise UsageError(
            f"--host {host!r}: without sign-in the console listens on this machine only; use "
            "127.0.0.1 or localhost. To let others in, set TIS_SYNC_OIDC_ISSUER or use an SSH "
            "tunnel."
        )
