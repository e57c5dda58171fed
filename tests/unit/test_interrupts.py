"""Control-C ends a command, also if it comes at a moment at which Python drops the exception."""

import os
import signal
from collections.abc import Iterator

import pytest

from tis_sync.cli.process import note_interrupts, pause


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    note_interrupts()
    yield
    signal.signal(signal.SIGINT, before)


class _InterruptedAtItsEnd:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_an_object_is_finalized_ends_the_next_pause() -> None:
    value = _InterruptedAtItsEnd()
    del value  # the exception is dropped here
    with pytest.raises(KeyboardInterrupt):
        pause(0)
    pause(0)


def test_an_interrupt_at_any_other_moment_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pause(0)
