"""Recorded steps.

A workflow is a function whose steps are recorded. After a crash it is called again, on any worker,
and skips the steps that are done. So everything that reads or changes outside state is a step, and
steps can be repeated safely.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from dbos import DBOS
from sqlalchemy.exc import DBAPIError

from tis_sync.db.driver_errors import as_transient_error
from tis_sync.durable.serialization import signature_of
from tis_sync.durable.work import current_work
from tis_sync.errors import TisSyncError, is_panic
from tis_sync.logs import get, reason_of, report

P = ParamSpec("P")
R = TypeVar("R")
LONGEST_REASON = 300  # characters of an unexpected error that are shown


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a recorded step; it only raises `TisSyncError`, with a message for people."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TisSyncError:
            raise
        except DBAPIError as error:
            raise as_transient_error(error) or unexpected(function.__name__, error) from error
        except Exception as error:
            raise unexpected(function.__name__, error) from error
        except BaseException as error:
            if not is_panic(error):
                raise
            raise _panicked(function.__name__) from None  # a panic may quote data

    @wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        work = current_work.get()
        if work is None:
            return guarded(*args, **kwargs)  # an ordinary call outside a workflow
        types = signature_of(function)

        def plain(*args: P.args, **kwargs: P.kwargs) -> Any:
            return types.plain_result(guarded(*args, **kwargs))

        with work.step():
            result = DBOS.run_step({"name": function.__name__}, plain, *args, **kwargs)
        return cast(R, types.returned(result))

    return recorded


def _panicked(name: str) -> TisSyncError:
    get().error("a library has panicked", step=name)
    return TisSyncError(
        f"A library has panicked in step {name.replace('_', ' ')}; the worker's standard error "
        "output contains the reason."
    )


def unexpected(name: str, error: Exception) -> TisSyncError:
    """Log an unexpected error of a step or workflow, and return one with a message for people."""
    report("unexpected error", error, step=name)
    return TisSyncError(
        f"Unexpected {type(error).__name__} in step {name.replace('_', ' ')}: "
        f"{reason_of(error)[:LONGEST_REASON]}. The log of the worker contains the traceback; on "
        "the command line, `--debug` shows it."
    )
