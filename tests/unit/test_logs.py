"""Logging: lines of runs go to their history, and DBOS does not repeat errors that we report."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dbos import DBOS

from tis_sync import durable, logs
from tis_sync.durable import Queue, Workflow
from tis_sync.errors import TisSyncError
from tis_sync.settings import Settings

QUEUE = Queue("test_logs", 1)


class Lines(logging.Handler):
    """Collects the lines that reach the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def errors(self) -> list[BaseException]:
        """The exceptions that were logged with a traceback."""
        return [r.exc_info[1] for r in self.records if r.exc_info and r.exc_info[1] is not None]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """The lines of a process whose logging is set up as for a worker."""
    logs.configure(Settings(home=tmp_path), level="WARNING")
    collected = Lines()
    logging.getLogger().addHandler(collected)
    yield collected
    logging.getLogger().removeHandler(collected)


def reported(_services: object) -> None:
    """Fail with an error that a run reports."""
    raise TisSyncError("the reason, in one line")


def unexpected(_services: object) -> None:
    """Fail with an error that nobody expects."""
    raise LookupError("a defect")


@pytest.mark.parametrize(("function", "logged"), [(reported, False), (unexpected, True)])
def test_dbos_logs_the_traceback_of_a_failed_workflow_only_if_we_do_not_report_it(
    lines: Lines, tmp_path: Path, function: Callable[[object], None], logged: bool
) -> None:
    workflow = Workflow("test_logs.fails", function, QUEUE.name)
    engine = durable.launch(Settings(home=tmp_path), None, "test", [workflow], (QUEUE,))
    try:
        with pytest.raises((TisSyncError, LookupError)) as raised:
            engine.enqueue(workflow).get_result()
    finally:
        DBOS.destroy(destroy_registry=True)
    messages = [str(error) for error in lines.errors()]
    assert (str(raised.value) in messages) is logged


def test_lines_of_a_run_go_to_its_history_at_any_level_and_others_do_not(
    tmp_path: Path,
) -> None:
    logs.configure(Settings(home=tmp_path), level="CRITICAL")
    history: list[tuple[str, str, str]] = []
    logs.to_history(lambda *line: history.append(line))
    try:
        with logs.run_log("12345678-run") as log:
            log.info("partition planned", number=1)
            logs.get("tis_sync.search").warning("refused", status=429)
        logs.get().error("not of a run")
    finally:
        logs.to_history(None)
    with logs.run_log("12345678-run") as log:
        log.info("after the session")
    assert history == [
        ("12345678-run", "info", "partition planned number=1"),
        ("12345678-run", "warning", "refused status=429"),
    ]


def test_a_second_history_replaces_the_first() -> None:
    first: list[str] = []
    second: list[str] = []
    logs.to_history(lambda _run, _level, text: first.append(text))
    logs.to_history(lambda _run, _level, text: second.append(text))
    try:
        with logs.run_log("12345678-run") as log:
            log.info("once")
    finally:
        logs.to_history(None)
    assert (first, second) == ([], ["once"])
