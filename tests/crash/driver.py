"""Run `tis-sync` and kill it (SIGKILL) at a named point: `driver.py POINT COUNT -- ARGS`.

A point is FUNCTION:before or FUNCTION:after; the process dies at the COUNT-th call. `time:SECONDS`
kills it after so many seconds. With `:suspend` at the end of a point, the process stops (SIGSTOP)
instead, until it is continued. The program itself knows nothing of this.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from tis_sync import cli
from tis_sync.esr.applicants import external_records, generations
from tis_sync.esr.export import workflow as export_workflow
from tis_sync.esr.export.commands import Commands
from tis_sync.esr.files.destination import Destination
from tis_sync.esr.messaging import dead_letters, outbox
from tis_sync.reconcile import table_apply
from tis_sync.runs import end, partition
from tis_sync.runs.history import History
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.rest import RestEngine
from tis_sync.state.liveness import Fence

# The objects and attributes that are wrapped, by the name of the point.
POINTS: dict[str, list[tuple[Any, str]]] = {
    "request": [(History, "request")],
    "begin": [(History, "begin")],
    "phase": [(History, "enter_phase")],
    "plan": [(partition, "plan")],
    "insert": [(table_apply, "insert")],
    "apply": [(table_apply, "apply")],
    "fill": [(partition, "fill")],
    "write": [(EmbeddedEngine, "write"), (RestEngine, "write")],
    "publish": [(EmbeddedEngine, "publish"), (RestEngine, "publish")],
    "end": [(History, "end")],
    "notify-end": [(end, "notify_end")],
    "request-export": [(Commands, "request")],
    "generate": [(generations, "generate")],
    "claim": [(export_workflow, "claim")],
    "render": [(export_workflow, "file_bytes")],
    "put": [(Destination, "put")],
    "part": [(LocalFileSystem, "pipe_file")],
    "rename": [(LocalFileSystem, "mv")],
    "written": [(export_workflow, "mark_written")],
    "report": [(export_workflow, "report_exports")],
    "reported": [(export_workflow, "mark_reported")],
    "end-export": [(Commands, "end")],
    "store-record": [(external_records, "store_external_records")],
    "store-dead-letter": [(dead_letters, "store")],
    "events-sent": [(outbox, "mark_sent")],
    "fence": [(Fence, "__call__")],
}


def die(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(1)  # another thread may receive the signal; this one must not continue


def arm(point: str, number: int) -> None:
    name, moment, *suspend = point.split(":")
    fatal = signal.SIGSTOP if suspend else signal.SIGKILL
    if name == "time":
        threading.Timer(float(moment), die).start()
        return
    calls = count(1)
    lock = threading.Lock()
    for owner, attribute in POINTS[name]:
        original: Callable[..., Any] = getattr(owner, attribute)

        def wrapped(*args: Any, _original: Callable[..., Any] = original, **kwargs: Any) -> Any:
            with lock:
                here = next(calls) == number
            if here and moment == "before":
                die(fatal)
            result = _original(*args, **kwargs)
            if here and moment == "after":
                die(fatal)
            return result

        setattr(owner, attribute, wrapped)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["tis-sync", *sys.argv[4:]]
    cli.main()
