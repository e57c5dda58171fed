"""Logging: lines of runs go to their history, and DBOS does not repeat errors that we report."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import copy
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pydantic
import pytest
import sqlalchemy as sa
from dbos import DBOS

from tis_sync import logs
from tis_sync.db.database import connect
from tis_sync.durable.engine import launch, register
from tis_sync.durable.model import Queue, Workflow
from tis_sync.durable.recorded_step import step
from tis_sync.errors import TisSyncError, UsageError
from tis_sync.settings.model import LogFormat, Settings

QUEUE = Queue("test_logs", 1)


class Lines(logging.Handler):
    """Collects the lines that reach the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line as it would be written."""
        return logging.getLogger().handlers[0].format(copy(record))

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


@step
def failing_step() -> None:
    """Fail with an unexpected error that has a cause."""
    try:
        unexpected(None)
    except LookupError as error:
        raise RuntimeError("a consequence") from error


def in_a_step(_services: object) -> None:
    """Fail in a step."""
    failing_step()


def run_workflow(tmp_path: Path, function: Callable[[object], None]) -> BaseException:
    """Carry out a workflow that fails; return its error."""
    workflow = Workflow("test_logs.fails", function, QUEUE.name)
    engine = register(Settings(home=tmp_path), None, "test", [workflow], (QUEUE,))
    launch(engine)
    try:
        with pytest.raises(TisSyncError) as raised:
            engine.enqueue(workflow).get_result()
    finally:
        DBOS.destroy(destroy_registry=True)
    return raised.value


def test_an_error_that_a_run_reports_has_no_traceback(lines: Lines, tmp_path: Path) -> None:
    assert str(run_workflow(tmp_path, reported)) == "the reason, in one line"
    assert lines.errors() == []


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (unexpected, ["LookupError: a defect"]),
        (in_a_step, ["LookupError: a defect", "RuntimeError: a consequence"]),
    ],
)
def test_an_unexpected_error_is_logged_once_at_error_with_its_causes(
    lines: Lines, tmp_path: Path, function: Callable[[object], None], texts: list[str]
) -> None:
    error = run_workflow(tmp_path, function)
    assert "The log of the worker contains the traceback" in str(error)
    logged = [record for record in lines.records if "Traceback" in lines.format(record)]
    assert [record.levelname for record in logged] == ["ERROR"]
    text = lines.format(logged[0])
    positions = [text.index(part) for part in texts]
    assert positions == sorted(positions)
    assert "in unexpected" in text  # where it was raised
    assert sum("a defect" in lines.format(record) for record in lines.records) == 1


def test_an_error_is_reported_by_the_first_that_reports_it(lines: Lines) -> None:
    error = LookupError("a defect")
    logs.report("first", error)
    logs.report("second", error)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    logging.getLogger("uvicorn.error").error("another", exc_info=LookupError("another"))
    assert [str(found) for found in lines.errors()] == ["another"]
    assert sum("a defect" in lines.format(record) for record in lines.records) == 1


@pytest.mark.parametrize("server", ["sqlite", "mariadb", "postgresql"])
def test_values_of_records_do_not_reach_the_log(
    request: pytest.FixtureRequest, lines: Lines, tmp_path: Path, server: str
) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    if server != "sqlite":
        url = request.getfixturevalue(server)
    database = connect(url, name="It", setting="-")
    person = sa.Table(
        "person",
        sa.MetaData(),
        sa.Column("surname", sa.String(20), primary_key=True),
        sa.Column("born", sa.Date, nullable=False),
    )
    with database.write() as connection:
        connection.execute(sa.schema.CreateTable(person))
    born = date(1995, 2, 3)

    def insert(*rows: dict[str, object]) -> None:
        with database.write() as connection:
            connection.execute(sa.insert(person), list(rows))

    insert({"surname": "O'Brien", "born": born})
    wrong: list[dict[str, object]] = [
        {"surname": "O'Brien", "born": born},
        {"surname": "O'Brien", "born": None},
    ]
    if server != "sqlite":
        wrong += [{"surname": "O'Brien" * 9, "born": born}]
    messages = []
    for row in wrong:

        @step
        def write(row: dict[str, object] = row) -> None:
            insert(row)

        with pytest.raises(TisSyncError) as raised:
            write()
        messages.append(str(raised.value))
    database.close()
    texts = [lines.format(record) for record in lines.records]
    assert len([text for text in texts if "Traceback" in text]) == len(wrong)
    for text in (*texts, *messages):
        assert "Brien" not in text
        assert "1995" not in text
    assert all("Error" in message for message in messages)


def test_values_that_other_packages_quote_are_replaced() -> None:
    with pytest.raises(pl.exceptions.PolarsError) as of_polars:
        pl.DataFrame({"a": ["O'Brien"]}).select(pl.col("a").cast(pl.Int64))
    assert "Brien" in str(of_polars.value)
    assert "Brien" not in logs.reason_of(of_polars.value)
    values: dict[str, Any] = {"born": "O'Brien"}
    with pytest.raises(pydantic.ValidationError) as of_pydantic:
        Record(**values)
    assert "Brien" in str(of_pydantic.value)
    assert "Brien" not in logs.traceback_of(of_pydantic.value)
    assert logs.reason_of(KeyError("personId")) == "'personId'"


class Record(pydantic.BaseModel):
    """A record with a date."""

    born: date


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


def test_a_history_that_fails_does_not_fail_the_run(lines: Lines) -> None:
    def outage(*_: str) -> None:
        raise TisSyncError("The state database does not answer.")

    logs.to_history(outage)
    try:
        with logs.run_log("12345678-run") as log:
            log.info("planned")
            log.error("failed")
    finally:
        logs.to_history(None)
    lost = [r.getMessage() for r in lines.records if "did not reach its history" in r.getMessage()]
    assert len(lost) == 2
    assert "The state database does not answer." in lost[0]


def test_a_value_that_is_missing_is_not_logged(tmp_path: Path) -> None:
    file, history = tmp_path / "log", list[str]()
    logs.configure(Settings(home=tmp_path, log_file=file, log_format=LogFormat.JSON))
    logs.to_history(lambda _, __, text: history.append(text))
    try:
        with logs.run_log("12345678-run") as log:
            log.info("succeeded", error=None, added=0)
    finally:
        logs.to_history(None)
    assert history == ["succeeded added=0"]
    assert "error" not in file.read_text()


WRITER = """
import sys
from pathlib import Path
from tis_sync import logs
from tis_sync.settings.model import Settings
settings = Settings(home=Path("."), log_file=Path(sys.argv[1]), log_file_bytes=10_000)
logs.configure(settings, stream=sys.stderr)
for number in range(100):
    logs.get().info(f"line {sys.argv[2]}-{number:03}")
"""


def test_several_processes_rotate_the_same_file_and_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tis-sync.log"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(number)], stderr=subprocess.DEVNULL
        )
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = sorted(tmp_path.glob("tis-sync.log*"))
    assert len(files) > 1
    found = re.findall(r"line (\d-\d{3})", "".join(f.read_text() for f in files))
    assert sorted(found) == [f"{w}-{n:03}" for w in range(3) for n in range(100)]


def test_a_log_file_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"TIS_SYNC_LOG_FILE='.*' cannot be written: "):
        logs.configure(Settings(home=tmp_path, log_file=tmp_path / "file" / "log"))
