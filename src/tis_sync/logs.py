"""Logging: to stdout, to a rotating file, and to the history of the run that a line belongs to."""

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import Any, TextIO

import structlog

from tis_sync.errors import TisSyncError
from tis_sync.settings import LogFormat, Settings

ROTATED_FILES = 5
OWN_LOGGER = "tis_sync"
QUIET_LOGGERS = ("elastic_transport", "opensearch", "urllib3", "alembic", "apprise")
NOT_IN_HISTORY = {"event", "level", "timestamp", "run", "run_id"}  # already columns, or implied

RunSink = Callable[[str, str, str], None]
"""Takes a run id, a level and the text of a line."""


def configure(settings: Settings, *, stream: TextIO | None = None, level: str = "INFO") -> None:
    """Set up logging for this process.

    Args:
        settings: the configuration: the format of the lines, and the log file.
        stream: where the lines go. None: stdout.
        level: the lowest level that is logged.

    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    out = stream or sys.stdout
    handlers: list[logging.Handler] = [logging.StreamHandler(out)]
    if settings.log_file is not None:
        settings.log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            RotatingFileHandler(
                settings.log_file,
                maxBytes=settings.log_file_bytes,
                backupCount=ROTATED_FILES,
                encoding="utf-8",
            )
        )
    for handler in handlers:
        handler.setLevel(level)
        colors = handler is handlers[0] and out.isatty()
        renderer: Any = structlog.dev.ConsoleRenderer(colors=colors)
        if settings.log_format is LogFormat.JSON:
            renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    _without_run_id,
                    renderer,
                ],
                foreign_pre_chain=shared,
            )
        )
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel("WARNING" if level == "INFO" else level)
    # The history of runs receives all our lines, whatever the level of the other handlers.
    logging.getLogger(OWN_LOGGER).setLevel(logging.DEBUG)
    # Without a handler, DBOS would add its own, with a different format.
    dbos = logging.getLogger("dbos")
    dbos.handlers[:] = [logging.NullHandler()]
    dbos.propagate = True
    dbos.addFilter(is_not_reported)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def get(name: str = OWN_LOGGER) -> Any:
    """Return a logger whose name is "tis_sync" or begins with "tis_sync."."""
    return structlog.get_logger(name)


def to_history(sink: RunSink | None) -> None:
    """Also pass the lines of runs to `sink`, which replaces the previous sink. None: to no sink."""
    logger = logging.getLogger(OWN_LOGGER)
    for handler in list(logger.handlers):
        if isinstance(handler, HistoryHandler):
            logger.removeHandler(handler)
    if sink is not None:
        logger.addHandler(HistoryHandler(sink))


@contextmanager
def run_log(run_id: str) -> Iterator[Any]:
    """Yield a logger for a run; all lines that this thread logs in the block belong to the run."""
    with structlog.contextvars.bound_contextvars(run=run_id[:8], run_id=run_id):
        yield get()


class HistoryHandler(logging.Handler):
    """Passes the lines that belong to a run to a sink, without their time and level columns."""

    def __init__(self, sink: RunSink) -> None:
        super().__init__()
        self._sink = sink

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass on a line without taking the handler's lock: the sink may wait for a database."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a line if it belongs to a run."""
        event = record.msg
        if isinstance(event, dict) and "run_id" in event:
            rest = " ".join(f"{k}={v}" for k, v in event.items() if k not in NOT_IN_HISTORY)
            self._sink(event["run_id"], event["level"], f"{event['event']} {rest}".strip())


def is_not_reported(record: logging.LogRecord) -> bool:
    """Whether to log a line from DBOS: not if it is about an error that we report ourselves.

    DBOS logs every failed workflow with a traceback. A `TisSyncError` is reported in one line by
    the run or command that the workflow belongs to.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, TisSyncError)


def _without_run_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("run_id", None)  # `run` contains a prefix of it, which is enough for people
    return event
