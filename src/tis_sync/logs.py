"""Logging: to stdout, to a rotating file, and to the history of the run that a line belongs to."""

import glob
import logging
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import structlog
from concurrent_log_handler import ConcurrentRotatingFileHandler

from tis_sync.errors import TisSyncError, UsageError
from tis_sync.private_files import protect_file
from tis_sync.settings.model import LogFormat, Settings
from tis_sync.text import printable

ROTATED_FILES = 5
SILENT = "CRITICAL"  # the level of commands: they print results, not lines
OWN_LOGGER = "tis_sync"
# They also log errors that we have logged; see `is_not_reported`.
REPEATING_LOGGERS = ("dbos", "uvicorn.error")
# The messages of these packages may quote values of records; see `reason_of`.
QUOTING_PACKAGES = {
    "connectorx", "elastic_transport", "elasticsearch", "opensearchpy", "polars", "psycopg",
    "pydantic", "pydantic_core", "pymysql", "sqlalchemy", "sqlite3",
}  # fmt: skip
# From the first quotation mark or bracket to the last one: a value may itself contain any of them.
VALUES = re.compile(r"['\"\[].*['\"\]]")
REPORTED = "_tis_sync_is_reported"  # the attribute that marks an error that has been logged
QUIET_LOGGERS = ("elastic_transport", "opensearch", "urllib3", "alembic")
# Its messages contain the URLs of channels, with their secrets; `alarms.delivery` reports failures.
SILENT_LOGGERS = ("apprise",)
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
        structlog.processors.ExceptionRenderer(_render_exception),
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
        handlers.append(_file_handler(settings.log_file, settings.log_file_bytes))
    for handler in handlers:
        handler.setLevel(level)
        if handler is not handlers[0] and level == SILENT:
            handler.setLevel("INFO")  # what a command does is logged, though it prints no lines
        colors = handler is handlers[0] and out.isatty()
        renderer: Any = structlog.dev.ConsoleRenderer(colors=colors)
        if settings.log_format is LogFormat.JSON:
            renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    _without_run_id,
                    _without_controls,
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
    for name in REPEATING_LOGGERS:
        logging.getLogger(name).addFilter(is_not_reported)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _file_handler(file: Path, most_bytes: int) -> logging.Handler:
    """A handler for a file that several processes write and rotate.

    Raises:
        UsageError: the file cannot be written.

    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for earlier in file.parent.glob(f"{glob.escape(file.name)}*"):  # an earlier version's
            protect_file(earlier)
        return ConcurrentRotatingFileHandler(
            str(file), maxBytes=most_bytes, backupCount=ROTATED_FILES, encoding="utf-8"
        )
    except OSError as error:
        raise UsageError(
            f"TIS_SYNC_LOG_FILE={str(file)!r} cannot be written: {error.strerror}."
        ) from None


def overwrite(file: Path, texts: Collection[str]) -> int:
    """Replace texts in a log file and in its rotated files by asterisks, in any case.

    The length stays the same, so processes that add lines meanwhile are not disturbed.

    Args:
        file: the log file.
        texts: what to replace.

    Returns:
        The number of places.

    """
    patterns = [re.escape(text.encode()) for text in sorted(texts, key=len, reverse=True) if text]
    if not patterns:
        return 0
    pattern = re.compile(b"|".join(patterns), re.IGNORECASE)
    replaced = 0
    for one in file.parent.glob(f"{glob.escape(file.name)}*"):
        with one.open("r+b") as opened:
            for match in pattern.finditer(opened.read()):
                opened.seek(match.start())
                opened.write(b"*" * len(match.group()))
                replaced += 1
    return replaced


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
            rest = " ".join(
                f"{k}={v}" for k, v in event.items() if k not in NOT_IN_HISTORY and v is not None
            )
            try:
                self._sink(event["run_id"], event["level"], f"{event['event']} {rest}".strip())
            except Exception as error:  # noqa: BLE001  a line that is lost must not fail the run
                lost = "a line of a run did not reach its history: %s: %s"
                logging.getLogger(OWN_LOGGER).warning(lost, type(error).__name__, reason_of(error))


def report(event: str, error: BaseException, **details: object) -> None:
    """Log an unexpected error at ERROR with its traceback and its causes, once.

    An error that passes several places that report it is logged by the first of them.

    Args:
        event: what failed.
        error: the error.
        details: further columns of the line.

    """
    if getattr(error, REPORTED, False):
        return
    with suppress(AttributeError):  # some classes of extensions accept no attributes
        setattr(error, REPORTED, True)
    get().error(event, exc_info=error, **details)


def is_not_reported(record: logging.LogRecord) -> bool:
    """Whether to log a line of another package: not if it is about an error that we report.

    DBOS logs every failed workflow with a traceback, and uvicorn every failed request. A
    `TisSyncError` is reported in one line by the run or command that the workflow belongs to;
    other errors are logged by `report`.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, TisSyncError) or getattr(error, REPORTED, False))


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, without values of records.

    Database drivers, Polars and search servers quote the value that they could not use, which may
    be personal data. What they quote is replaced by asterisks.
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return ""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if not packages & QUOTING_PACKAGES:
        return lines[0]
    return VALUES.sub("***", lines[0])


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, without values of records."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    link = ""
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(
            f"Traceback (most recent call last):\n{frames}"
            f"{type(current).__module__}.{type(current).__qualname__}: {reason_of(current)}\n{link}"
        )
        if isinstance(current, BaseExceptionGroup):
            parts += [traceback_of(inner) + "\n" for inner in reversed(current.exceptions)]
        if current.__cause__ is not None:
            current, link = current.__cause__, "\nwhich caused:\n\n"
        elif current.__context__ is not None and not current.__suppress_context__:
            current, link = current.__context__, "\nwhile it was handled, another one occurred:\n\n"
        else:
            current = None
    return "".join(reversed(parts)).rstrip()


def _render_exception(exc_info: Any) -> str:
    return traceback_of(exc_info[1])


def _without_controls(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show control characters, so that a value cannot act on a terminal, or add a line."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n" if name == "exception" else "")
    return event


def _without_run_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("run_id", None)  # `run` contains a prefix of it, which is enough for people
    for name in [name for name, value in event.items() if value is None]:
        del event[name]
    return event
