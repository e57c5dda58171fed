"""The connection to TCS: lost, refused, interrupted, silent."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.conftest import TODAY
from tests.wire import Wire
from tests.world import World
from tis_sync.db.database import Database, connect
from tis_sync.db.driver_errors import as_transient_error
from tis_sync.db.transient import READ_RETRY_SECONDS, Cause, cause_of
from tis_sync.errors import LockedError, SourceError, TisSyncError, UnreachableError
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.tcs import tables as t
from tis_sync.tcs.connector import read_columns
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Source

pytestmark = pytest.mark.servers
PEOPLE = 20_000  # enough to fill several packets
SILENT_SECONDS = 0.5


def opened(url: str, timeout_seconds: float = 60.0) -> Database:
    return connect(url, name="TCS", setting="TIS_SYNC_TCS_URL", timeout_seconds=timeout_seconds)


@pytest.fixture
def wired(mariadb_tcs: World) -> Iterator[tuple[Wire, str]]:
    """A TCS with placements, and a connection to it that can be cut; its URL."""
    url = make_url(mariadb_tcs.url)
    rows = [{"id": i, "traineeId": i, "dateFrom": TODAY} for i in range(1, PEOPLE + 1)]
    mariadb_tcs.fill({"Placement": rows})
    wire = Wire(url.host or "127.0.0.1", url.port or 3306)
    yield wire, url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    wire.close()


def placements(source: Source) -> int:
    return source.load([PLACEMENTS], ALL_KEYS).frames["Placement"].height


@pytest.mark.parametrize("answered", [1, 100_000])
def test_a_read_that_is_cut_is_repeated_until_tcs_is_back(
    wired: tuple[Wire, str], answered: int
) -> None:
    """One byte cuts the greeting of the connection, the other number cuts the rows."""
    wire, url = wired
    database = opened(url)
    waits: list[float] = []

    def failover(seconds: float) -> None:
        assert wire.answered >= answered  # the read was in flight
        waits.append(seconds)
        if len(waits) == 2:
            wire.join()

    source = Source(database, TODAY, sleep=failover)
    assert source._holds_text(t.Placement.c.dateFrom) is False  # so that only the rows are left
    wire.cut_after(answered)
    assert placements(source) == PEOPLE
    assert tuple(waits) == READ_RETRY_SECONDS[:2]
    database.close()


def test_a_read_gives_up_with_a_transient_error_while_tcs_stays_away(
    wired: tuple[Wire, str],
) -> None:
    wire, url = wired
    database = opened(url)
    waits: list[float] = []
    wire.cut()
    with pytest.raises(UnreachableError, match=r"does not answer") as raised:
        placements(Source(database, TODAY, sleep=waits.append))
    assert raised.value.transient
    assert tuple(waits) == READ_RETRY_SECONDS
    database.close()


def test_a_statement_that_is_wrong_is_not_repeated(mariadb_tcs: World) -> None:
    mariadb_tcs.execute("ALTER TABLE Placement DROP COLUMN traineeId")
    waits: list[float] = []
    with pytest.raises(SourceError, match="1054") as raised:
        placements(Source(mariadb_tcs.database, TODAY, sleep=waits.append))
    assert not raised.value.transient
    assert waits == []


def test_a_server_that_hangs_costs_the_timeout_and_no_thread(wired: tuple[Wire, str]) -> None:
    wire, url = wired
    hanging, other = opened(url, SILENT_SECONDS), opened(url, SILENT_SECONDS)
    assert placements(Source(hanging, TODAY)) == PEOPLE
    hung = Source(hanging, TODAY, sleep=_no_wait, clock=_clock_of(100.0))
    wire.freeze()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"timed out|silent"):
        placements(hung)
    assert time.monotonic() - began < 10 * SILENT_SECONDS
    wire.thaw()
    assert placements(Source(other, TODAY)) == PEOPLE
    assert [thread.name for thread in threading.enumerate() if thread.name == "relay"] == []
    hanging.close()
    other.close()


def test_columns_that_stop_coming_are_cut_off(mariadb_tcs: World) -> None:
    """The server answers the driver, and then sends nothing for longer than the timeout."""
    database = opened(mariadb_tcs.url, SILENT_SECONDS)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"it has been silent"):
        read_columns(database, "SELECT SLEEP(30) AS v", "Placement")
    assert time.monotonic() - began < 10 * SILENT_SECONDS
    database.close()


def test_a_write_that_hangs_costs_the_timeout(wired: tuple[Wire, str]) -> None:
    wire, url = wired
    database = opened(url, SILENT_SECONDS)
    wire.freeze()
    with pytest.raises(UnreachableError, match=r"timed out"), database.write() as connection:
        connection.execute(sa.delete(t.Placement))
    wire.thaw()
    database.close()


def _kill(connection: sa.Connection, mark: str) -> int:
    """Kill the connections whose statement contains a text; return how many."""
    ids = connection.exec_driver_sql(
        "SELECT id FROM information_schema.processlist "
        "WHERE info LIKE %s AND command <> 'Killed' AND id <> CONNECTION_ID()",
        (f"%{mark}%",),
    ).scalars()
    killed = 0
    for number in ids:
        with suppress(sa.exc.OperationalError):  # it has ended in the meantime
            connection.exec_driver_sql(f"KILL {number}")
            killed += 1
    return killed


def test_a_read_that_the_server_kills_is_transient(mariadb_tcs: World) -> None:
    with ThreadPoolExecutor(1) as threads, mariadb_tcs.database.read() as connection:
        mark = "SLEEP(29)"
        reading = threads.submit(
            read_columns, mariadb_tcs.database, f"SELECT {mark} AS v", "Placement"
        )
        deadline = time.monotonic() + 20
        kills = 0
        while not reading.done():
            kills += _kill(connection, mark)
            assert time.monotonic() < deadline
        assert kills > 0
        with pytest.raises(UnreachableError) as raised:
            reading.result()
        assert raised.value.transient


def test_a_read_that_takes_longer_than_the_server_allows_is_transient(mariadb_tcs: World) -> None:
    limited = f"limited_{make_url(mariadb_tcs.url).database}"[:30]
    mariadb_tcs.execute(
        f"CREATE USER '{limited}'@'%' IDENTIFIED BY 'x' WITH MAX_STATEMENT_TIME 0.2"
    )
    try:
        mariadb_tcs.execute(f"GRANT ALL ON *.* TO '{limited}'@'%'")
        url = make_url(mariadb_tcs.url).set(username=limited, password="x")
        database = opened(url.render_as_string(hide_password=False))
        mariadb_tcs.fill({"Placement": [{"id": 1}]})
        slow = Read(t.Placement, ("id",), where=always(sa.func.sleep(5) == 0))
        with pytest.raises(UnreachableError, match=r"interrupted a statement .*1969"):
            Source(database, TODAY, sleep=_no_wait).load([slow], ALL_KEYS)
        database.close()
    finally:
        mariadb_tcs.execute(f"DROP USER '{limited}'@'%'")


def test_a_value_that_connectorx_panics_on_is_an_ordinary_error(mariadb_tcs: World) -> None:
    mariadb_tcs.execute("ALTER TABLE Placement MODIFY specialty TIME")
    mariadb_tcs.execute("INSERT INTO Placement (id, specialty, lifecycleState) "
                        "VALUES (1, '-100:23:45', 'DRAFT')")  # fmt: skip
    read = Read(t.Placement, ("id", "specialty"))
    with pytest.raises(SourceError, match="Placement contains a value") as raised:
        Source(mariadb_tcs.database, TODAY).load([read], ALL_KEYS)
    assert "23" not in str(raised.value).replace(mariadb_tcs.database.address, "")


def test_every_session_is_in_utc(mariadb_tcs: World) -> None:
    zone = "SELECT @@session.time_zone AS v"
    with mariadb_tcs.database.read() as connection:
        assert connection.exec_driver_sql(zone).scalar() == "+00:00"
    assert read_columns(mariadb_tcs.database, zone, "x")["v"].to_list() == ["+00:00"]


def test_only_the_demo_lets_the_server_ask_for_files(mariadb_tcs: World) -> None:
    for database, allowed in ((mariadb_tcs.database, False),):
        assert _accepts_files(database) is allowed
    with mariadb_tcs.database.with_local_files() as accepting:
        assert _accepts_files(accepting) is True


def _accepts_files(database: Database) -> bool:
    try:
        with database.write() as connection:
            connection.exec_driver_sql("LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE PersonOwner")
    except sa.exc.DBAPIError:
        return False
    return True


def _failure(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except sa.exc.DBAPIError as error:
        return error
    raise AssertionError("it succeeded")


def _raw(url: str, *statements: str) -> Callable[[], object]:
    def act() -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    return act


def test_the_errors_of_postgresql_are_told_apart(postgresql: str) -> None:
    url = make_url(postgresql)

    def cause(*statements: str, **changes: object) -> Cause | None:
        changed = url.set(**changes)  # type: ignore[arg-type]
        return cause_of(_failure(_raw(changed.render_as_string(hide_password=False), *statements)))

    assert cause(database="nowhere") == Cause.NO_DATABASE
    assert cause(username="nobody") == Cause.ACCESS_DENIED
    assert cause(port=1) == Cause.UNREACHABLE
    assert cause("SELECT pg_terminate_backend(pg_backend_pid())") == Cause.UNREACHABLE
    assert cause("SET statement_timeout = 10", "SELECT pg_sleep(9)") == Cause.INTERRUPTED
    read_only = ("SET default_transaction_read_only = on", "COMMIT", "CREATE TABLE a (b int)")
    assert cause(*read_only) == Cause.READ_ONLY
    assert cause("SELECT nothing") is None


def test_a_session_of_postgresql_is_in_utc_and_ends_what_hangs(postgresql: str) -> None:
    database = connect(postgresql, name="The state", setting="X")
    with database.read() as connection:
        assert connection.exec_driver_sql("SHOW timezone").scalar() == "UTC"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "5min"
        assert connection.exec_driver_sql(
            "SHOW idle_in_transaction_session_timeout"
        ).scalar() == "15s"  # fmt: skip
    database.close()


def test_a_deadlock_of_mariadb_is_a_collision(mariadb_tcs: World) -> None:
    mariadb_tcs.fill({"PersonOwner": [{"id": 1}, {"id": 2}]})
    barrier = threading.Barrier(2)

    def update(first: int, second: int) -> TisSyncError | None:
        try:
            with mariadb_tcs.database.write() as connection:
                for key in (first, second):
                    connection.execute(
                        sa.update(t.PersonOwner).where(t.PersonOwner.c.id == key).values(rule="P1")
                    )
                    if key == first:
                        barrier.wait(10)
        except TisSyncError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(update, 1, 2), threads.submit(update, 2, 1)]
        (failed,) = [error for done in results if (error := done.result()) is not None]
    assert isinstance(failed, LockedError)


def test_a_locked_sqlite_file_is_a_collision_and_a_missing_folder_unreachable(
    embedded_tcs: World,
) -> None:
    impatient = f"{embedded_tcs.url}?timeout=0"
    with embedded_tcs.database.write():
        error = _failure(_raw(impatient, "BEGIN IMMEDIATE"))
    assert cause_of(error) == Cause.COLLISION
    assert isinstance(error, sa.exc.DBAPIError)
    assert isinstance(as_transient_error(error), LockedError)
    assert cause_of(_failure(_raw("sqlite:////nowhere/x.sqlite"))) == Cause.UNREACHABLE


def _no_wait(_: float) -> None:
    """Wait for nothing."""


def _clock_of(step: float) -> Callable[[], float]:
    """A clock that advances by `step` seconds whenever it is read."""
    ticks = iter(range(10_000))
    return lambda: next(ticks) * step
