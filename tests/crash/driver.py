"""Runs `tis-sync` and kills itself (SIGKILL) at a named point: `driver.py POINT COUNT -- ARGS`.

A point is FUNCTION:before or FUNCTION:after; the process dies at its COUNT-th call. `time:SECONDS`
dies after so many seconds. The program itself knows nothing of it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from tis_sync import cli
from tis_sync.esr import elsewhere, files, generations, workflows
from tis_sync.esr.broker import letters, outbox
from tis_sync.esr.commands import Commands
from tis_sync.esr.destination import Destination
from tis_sync.reconcile import table
from tis_sync.runs import outcome, parts
from tis_sync.runs.history import History
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.rest import RestEngine

PLACES: dict[str, list[tuple[Any, str]]] = {
    "request": [(History, "request")],
    "begin": [(History, "begin")],
    "phase": [(History, "phase")],
    "plan": [(parts, "plan")],
    "insert": [(table, "insert")],
    "apply": [(table, "apply")],
    "fill": [(parts, "fill")],
    "write": [(EmbeddedEngine, "write"), (RestEngine, "write")],
    "publish": [(EmbeddedEngine, "publish"), (RestEngine, "publish")],
    "end": [(History, "end")],
    "announce": [(outcome, "announce")],
    "ask-export": [(Commands, "ask")],
    "generate": [(generations, "generate")],
    "claim": [(files, "claim")],
    "render": [(files, "content")],
    "put": [(Destination, "put")],
    "part": [(LocalFileSystem, "pipe_file")],
    "rename": [(LocalFileSystem, "mv")],
    "written": [(files, "written")],
    "tell": [(workflows, "tell")],
    "settle": [(files, "settle")],
    "end-export": [(Commands, "end")],
    "take-record": [(elsewhere, "take")],
    "take-letter": [(letters, "take")],
    "events-sent": [(outbox, "sent")],
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, number: int) -> None:
    name, _, moment = point.partition(":")
    if name == "time":
        threading.Timer(float(moment), die).start()
        return
    calls = count(1)
    lock = threading.Lock()
    for owner, attribute in PLACES[name]:
        original: Callable[..., Any] = getattr(owner, attribute)

        def wrapped(*args: Any, _original: Callable[..., Any] = original, **kwargs: Any) -> Any:
            with lock:
                here = next(calls) == number
            if here and moment == "before":
                die()
            result = _original(*args, **kwargs)
            if here and moment == "after":
                die()
            return result

        setattr(owner, attribute, wrapped)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["tis-sync", *sys.argv[4:]]
    cli.main()
