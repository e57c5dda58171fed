"""Wait in a test until something holds that other threads or processes bring about."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.05


def eventually(
    condition: Callable[[], object], seconds: float = 60.0, message: object = ""
) -> float:
    """Wait until a condition holds, and fail if it does not in time.

    Args:
        condition: called repeatedly, and at least once.
        seconds: how long to wait.
        message: says in a failure what was expected. A function is called then.

    Returns:
        How long that took, in seconds.

    """
    started = time.monotonic()
    while not condition():
        in_time = time.monotonic() - started < seconds
        assert in_time, message() if callable(message) else message
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started
