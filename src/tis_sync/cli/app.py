"""What all commands share: the application, and options that several of them take."""

import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from tis_sync import __version__
from tis_sync.console import out

app = typer.Typer(
    help="Keeps everything derived from TCS right, and tells ESR of those who start soon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
schema_app = typer.Typer(help="What TCS has to look like.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")

EXIT_OF_STATE = {"succeeded": 0, "held": 3}
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"tis-sync {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and all log lines.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keeps everything derived from TCS right."""


@contextmanager
def until_told_to_stop() -> Iterator[threading.Event]:
    """An event that is set by SIGTERM, and by SIGINT (Control-C)."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave() -> NoReturn:
    """End a process that worked; to be called when its session is closed and its work put back.

    Threads of runs that wait for partitions which others will do now never end by themselves, and
    would keep the process; what they would do next is others' too.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def who() -> str:
    """The person who calls, for the history."""
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"
