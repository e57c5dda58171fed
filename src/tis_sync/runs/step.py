"""A recorded step of durable work, whose errors are lines for people."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from dbos import DBOS
from sqlalchemy.exc import DBAPIError

from tis_sync.errors import TisSyncError
from tis_sync.logs import get
from tis_sync.tcs.connect import passing

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
        except DBAPIError as error:
            raise passing(error) or _unexpected(function.__name__, error) from None
        except Exception as error:  # noqa: BLE001  what a step leaves has to be a line for people
            raise _unexpected(function.__name__, error) from None

    return DBOS.step()(guarded)


def _unexpected(name: str, error: Exception) -> TisSyncError:
    get().debug("unexpected", step=name, exc_info=True)
    reason = " ".join(str(error).split())[:300]
    return TisSyncError(
        f"Unexpected {type(error).__name__} while {name.replace('_', ' ')}: {reason}. Run again "
        "with --debug for the details."
    )
