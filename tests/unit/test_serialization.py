"""DBOS's tables contain plain JSON: whoever writes to them cannot run code in the workers."""

import base64
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from os import mkdir
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from tests.demo_runs import settings
from tests.running import run_night, working
from tests.waiting import eventually
from tis_sync.app import COMPONENTS
from tis_sync.durable.engine import WORKFLOW_VERSION, Engine, launch, register
from tis_sync.durable.model import Queue, Schedule, Workflow
from tis_sync.durable.recorded_step import step
from tis_sync.durable.serialization import JSON, UnreadableRowError, signature_of
from tis_sync.durable.tables import client
from tis_sync.errors import AlreadyRunningError, HeldError, LockedError, TisSyncError
from tis_sync.execution.preparation import Mode, Prepared, prepare
from tis_sync.execution.workflow import PLAN_PARTITION
from tis_sync.runs.partition import PartitionResult
from tis_sync.runs.run import RunState
from tis_sync.settings.model import Settings
from tis_sync.tcs.key_ranges import KeyRange
from tis_sync.workers.home import HomeInUseError, Owner

__all__ = ["settings"]

QUEUE = Queue("test_serialization", 2)
WAIT = 20.0


class Planted:
    """What an attacker writes into a table: it makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return mkdir, (str(self.folder),)


@step
def a_step(_services: object) -> list[int]:
    """Return something small."""
    return [1]


def steps(_services: object, number: int) -> list[int]:
    """Do a step that an earlier attempt has recorded."""
    return [*a_step(_services), number]


def receives(_services: object, key: str) -> str:
    """Read a message, an event and a stream, as no workflow of ours does yet."""
    if key == "message":
        return str(DBOS.recv("topic", timeout_seconds=5))
    if key == "event":
        return str(DBOS.get_event("another", "key", timeout_seconds=5))
    return str(next(iter(DBOS.read_stream("another", "key"))))


def scheduled(_services: object, _at: datetime, context: str) -> None:
    """Start at a time."""
    FIRED.append((_at, context))


FIRED: list[tuple[datetime, str]] = []
STEPS = Workflow("test_serialization.steps", steps, QUEUE.name)
RECEIVES = Workflow("test_serialization.receives", receives, QUEUE.name)
SCHEDULED = Workflow("test_serialization.scheduled", scheduled, QUEUE.name)


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def engine(home: Settings) -> Iterator[Engine]:
    found = start(home)
    yield found
    DBOS.destroy(destroy_registry=True)


def start(home: Settings, worker: str = "test") -> Engine:
    engine = register(home, None, worker, [STEPS, RECEIVES, SCHEDULED], (QUEUE,))
    launch(engine)
    return engine


def write(home: Settings, statement: str, **values: Any) -> None:
    database = sa.create_engine(home.dbos())
    with database.begin() as connection:
        connection.execute(sa.text(statement), values)
    database.dispose()


def status(workflow_id: str) -> str:
    found = DBOS.get_workflow_status(workflow_id)
    return "" if found is None else found.status


@pytest.fixture(params=["py_pickle", "portable_json", JSON.name(), None])
def serializer(request: pytest.FixtureRequest) -> str | None:
    """What the planted row says about how to read it."""
    chosen: str | None = request.param
    return chosen


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A folder that exists once a planted pickle has been executed."""
    return tmp_path / "executed"


@pytest.fixture
def planted(mark: Path) -> str:
    return base64.b64encode(pickle.dumps(Planted(mark))).decode()


def test_the_planted_pickle_would_be_executed_by_dbos_own_serializer(
    planted: str, mark: Path
) -> None:
    pickle.loads(base64.b64decode(planted))
    assert mark.exists()


def test_planted_arguments_end_their_workflow_and_are_not_executed(
    engine: Engine, home: Settings, serializer: str | None, planted: str, mark: Path
) -> None:
    with client(home) as dbos:
        dbos.enqueue(
            {"workflow_name": STEPS.name, "queue_name": "elsewhere", "workflow_id": "planted",
             "app_version": WORKFLOW_VERSION}, 1,
        )  # fmt: skip
    write(home, "UPDATE workflow_status SET inputs = NULL")
    write(home, "UPDATE workflow_input SET inputs = :planted", planted=planted)
    write(home, "UPDATE workflow_status SET serialization = :name, queue_name = :queue",
          name=serializer, queue=QUEUE.name)  # fmt: skip
    eventually(lambda: status("planted") == "ERROR", WAIT)
    assert not mark.exists()


def test_a_planted_result_of_a_step_fails_the_workflow_and_is_not_executed(
    home: Settings, serializer: str | None, planted: str, mark: Path
) -> None:
    engine = start(home)
    try:
        assert engine.enqueue(STEPS, 7, workflow_id="planted").get_result() == [1, 7]
    finally:
        DBOS.destroy(destroy_registry=True)
    write(home, "UPDATE workflow_status SET status = 'PENDING', output = NULL, owner_xid = NULL")
    write(home, "DELETE FROM workflow_output")
    write(home, "UPDATE operation_outputs SET output = :planted, serialization = :name",
          planted=planted, name=serializer)  # fmt: skip
    start(home)
    try:
        eventually(lambda: status("planted") == "ERROR", WAIT)
        assert not mark.exists()
    finally:
        DBOS.destroy(destroy_registry=True)


@pytest.mark.parametrize("column", ["output", "error"])
def test_a_planted_result_of_a_workflow_is_not_executed(
    engine: Engine, home: Settings, serializer: str | None, planted: str, mark: Path, column: str
) -> None:
    engine.enqueue(STEPS, 7, workflow_id="planted").get_result()
    state = "SUCCESS" if column == "output" else "ERROR"
    values = {"planted": planted, "name": serializer, "state": state}
    write(home, f"UPDATE workflow_output SET output = NULL, error = NULL, {column} = :planted",
          planted=planted)  # fmt: skip
    write(home, "UPDATE workflow_status SET serialization = :name, status = :state, "
          f"output = NULL, error = NULL, {column} = :planted", **values)  # fmt: skip
    with pytest.raises((TisSyncError, TypeError)):
        signature_of(steps).returned(DBOS.retrieve_workflow("planted").get_result())
    with client(home) as dbos:
        dbos.list_workflows()
    DBOS.list_workflows()
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["message", "event", "stream"])
def test_planted_messages_events_and_streams_are_not_executed(
    engine: Engine, home: Settings, serializer: str | None, planted: str, mark: Path, kind: str
) -> None:
    engine.enqueue(STEPS, 7, workflow_id="another").get_result()
    values = {"value": planted, "name": serializer}
    if kind == "event":
        write(home, "INSERT INTO workflow_events (workflow_uuid, key, value, serialization) "
              "VALUES ('another', 'key', :value, :name)", **values)  # fmt: skip
    elif kind == "stream":
        write(home, 'INSERT INTO streams (workflow_uuid, key, value, "offset", function_id, '
              "serialization) VALUES ('another', 'key', :value, 0, 9, :name)",
              **values)  # fmt: skip
    handle = engine.enqueue(RECEIVES, kind, workflow_id="receives")
    if kind == "message":
        write(home, "INSERT INTO notifications (destination_uuid, topic, message, serialization, "
              "message_uuid, created_at_epoch_ms) VALUES ('receives', 'topic', :value, :name, 'm', "
              "1)", **values)  # fmt: skip
    try:
        assert "args" in handle.get_result()  # an `Unreadable`
    except TisSyncError:
        assert serializer in {"py_pickle", "portable_json"}
    assert not mark.exists()


def test_a_planted_context_of_a_schedule_is_not_executed_and_the_others_go_on(
    engine: Engine, home: Settings, planted: str, mark: Path
) -> None:
    """Earlier versions have left pickled contexts: they must not end DBOS's scheduler."""
    FIRED.clear()
    engine.apply_schedules(
        [Schedule(name, SCHEDULED, "* * * * * *", name) for name in ("a", "planted", "z")]
    )
    write(home, "UPDATE workflow_schedules SET context = :planted WHERE schedule_name = 'planted'",
          planted=planted)  # fmt: skip
    DBOS.destroy(destroy_registry=True)
    FIRED.clear()
    restarted = start(home, "again")
    eventually(lambda: {context for _, context in FIRED} == {"a", "z"}, WAIT)
    assert all(at.tzinfo is not None for at, _ in FIRED)
    with pytest.raises(TisSyncError):
        DBOS.retrieve_workflow(DBOS.trigger_schedule("planted").workflow_id).get_result()
    restarted.apply_schedules([Schedule("planted", SCHEDULED, "* * * * * *", "new")])
    eventually(lambda: "new" in {context for _, context in FIRED}, WAIT)
    assert not mark.exists()


def test_everything_that_a_night_stores_is_json(settings: Settings) -> None:
    with working(settings.model_copy(update={"partition_keys": 100})) as services:
        night, *_ = run_night(services)
        assert night.state == RunState.SUCCEEDED
    database = sa.create_engine(settings.dbos())
    with database.connect() as connection:
        for condition in ("workflow_status", "operation_outputs WHERE output IS NOT NULL"):
            found = connection.execute(sa.text(f"SELECT DISTINCT serialization FROM {condition}"))
            assert set(found.scalars()) == {JSON.name()}
        for column, table in (
            ("inputs", "workflow_input"), ("output", "workflow_output"),
            ("output", "operation_outputs"), ("context", "workflow_schedules"),
        ):  # fmt: skip
            texts = connection.execute(sa.text(f"SELECT {column} FROM {table}")).scalars()
            for text in filter(None, texts):
                JSON.deserialize(text)
                assert text[0] in '{["0123456789ntf', text
    database.dispose()


@pytest.mark.parametrize(
    "error",
    [
        HeldError("the guard objects"),
        LockedError("wait"),
        AlreadyRunningError("it runs", "1234"),
        HomeInUseError(Path("home"), Owner(1, None)),
    ],
)
def test_an_error_comes_back_as_what_it_was(error: TisSyncError) -> None:
    back = JSON.deserialize(JSON.serialize(error))
    assert isinstance(back, TisSyncError)
    assert isinstance(error, type(back))
    assert str(back) == str(error)
    assert (back.transient, back.exit_code) == (error.transient, error.exit_code)
    assert getattr(back, "run_id", None) == getattr(error, "run_id", None)


def test_an_error_that_a_row_invents_is_no_class_that_it_chooses() -> None:
    back = JSON.deserialize('{"$error": "SystemExit", "message": "x"}')
    assert type(back).__name__ == "RecordedError"


def test_results_and_arguments_come_back_as_what_they_were() -> None:
    prepared = Prepared(
        [KeyRange(None, 5), KeyRange(5, None)], Mode.IN_PLACE, "persons-1", {"a": [1]}
    )
    of_step = signature_of(prepare.__wrapped__)  # type: ignore[attr-defined]
    plain = JSON.deserialize(JSON.serialize(of_step.plain_result(prepared)))
    assert of_step.returned(plain) == prepared
    of_workflow = signature_of(PLAN_PARTITION.function)
    arguments = ("run", 2, KeyRange(1, 2), None)
    stored = JSON.deserialize(JSON.serialize(of_workflow.plain_arguments(arguments)))
    assert tuple(of_workflow.arguments(tuple(stored))) == arguments
    result = PartitionResult(considered=2**60)
    assert (
        of_workflow.returned(JSON.deserialize(JSON.serialize(of_workflow.plain_result(result))))
        == result
    )


def test_what_does_not_fit_the_function_is_refused_without_its_value() -> None:
    types = signature_of(PLAN_PARTITION.function)
    with pytest.raises(UnreadableRowError, match="1 recorded arguments, not 4"):
        types.arguments(("run",))
    with pytest.raises(UnreadableRowError) as refused:
        types.returned({"considered": "Smith"})
    assert "Smith" not in str(refused.value)


@pytest.mark.parametrize("workflow", COMPONENTS.workflows, ids=lambda w: w.name)
def test_every_workflow_declares_its_types(workflow: Workflow) -> None:
    declared = {name for name in workflow.function.__annotations__ if name != "s"}
    assert "return" in declared
    assert signature_of(workflow.function)


def test_a_scheduled_time_is_a_time_again() -> None:
    at = datetime(2026, 3, 2, 14, tzinfo=UTC)
    (stored,) = JSON.deserialize(JSON.serialize([at]))
    assert signature_of(scheduled).arguments((stored, "APP")) == [at, "APP"]
