"""Log lines by structlog: to stdout, to a rotating file where set, and into the history of runs."""

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import Any, TextIO

import structlog

from tis_sync.settings import Settings

ROTATED_FILES = 5
RunSink = Callable[[str, str, str], None]
"""Takes a run's id, a level and a line of text."""

_run_sink: RunSink | None = None


def configure(settings: Settings, *, stream: TextIO | None = None, level: str = "INFO") -> None:
    """Set up logging for this process.

    Args:
        settings: form and file.
        stream: where lines go; None: stdout.
        level: the least level that is shown.

    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _to_run, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
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
        if settings.log_format == "json":
            renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                foreign_pre_chain=shared,
            )
        )
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel("WARNING" if level == "INFO" else level)
    logging.getLogger("tis_sync").setLevel(level)
    # DBOS adds a handler of its own unless it has one; its lines are to look like the others.
    dbos = logging.getLogger("dbos")
    dbos.handlers[:] = [logging.NullHandler()]
    dbos.propagate = True
    # A partition that failed is told by its run, in words for people.
    dbos.addFilter(lambda record: "in background workflow" not in record.getMessage())
    for noisy in ("elastic_transport", "opensearch", "urllib3", "alembic", "apprise"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def get(name: str = "tis_sync") -> Any:
    """A logger below "tis_sync"."""
    return structlog.get_logger(name)


def to_history(sink: RunSink | None) -> None:
    """Also hand the lines of runs to `sink`."""
    global _run_sink
    _run_sink = sink


@contextmanager
def run_log(run_id: str) -> Iterator[Any]:
    """A logger whose lines belong to a run, as do all other lines of this thread in the block."""
    with structlog.contextvars.bound_contextvars(run=run_id[:8], run_id=run_id):
        yield get()


def _to_run(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    run_id = event.pop("run_id", None)
    if run_id is not None and _run_sink is not None:
        hidden = {"event", "level", "timestamp", "run", "_record", "_from_structlog"}
        rest = " ".join(f"{k}={v}" for k, v in event.items() if k not in hidden)
        _run_sink(run_id, level, f"{event['event']} {rest}".strip())
    return event
