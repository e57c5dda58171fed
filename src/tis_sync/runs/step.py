"""A recorded step of durable work, whose errors are lines for people."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from dbos import DBOS

from tis_sync.errors import TisSyncError
from tis_sync.logs import get

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Callable[P, R]:
    """A DBOS step whose errors are lines for people."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TisSyncError:
            raise
        except Exception as error:  # noqa: BLE001  what a step leaves has to be a line for people
            get().debug("unexpected", step=function.__name__, exc_info=True)
            reason = " ".join(str(error).split())[:300]
            raise TisSyncError(
                f"Unexpected {type(error).__name__} while {function.__name__.replace('_', ' ')}: "
                f"{reason}. Run again with --debug for the details."
            ) from None

    return DBOS.step()(guarded)
