"""A worker whose clock runs fast: `fast_worker.py START EPOCH SPEED` (settings as usual).

At the real time EPOCH (seconds) its clock shows START (ISO), and then advances SPEED times as fast.
So do the waits before the retries of runs.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from tis_sync import logs
from tis_sync.app import session
from tis_sync.cli.process import exit_now, wait_until
from tis_sync.execution import workflow
from tis_sync.settings.loading import load_settings


def fast_clock(start: datetime, epoch: float, speed: float) -> Callable[[], datetime]:
    return lambda: start + timedelta(seconds=(time.time() - epoch) * speed)


if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = load_settings()
    logs.configure(settings)
    speed = float(sys.argv[3])
    clock = fast_clock(datetime.fromisoformat(sys.argv[1]), float(sys.argv[2]), speed)
    workflow.RETRY_SECONDS = tuple(seconds / speed for seconds in workflow.RETRY_SECONDS)
    with session(settings, scheduler=True, clock=clock):
        wait_until(stop)
    exit_now()
