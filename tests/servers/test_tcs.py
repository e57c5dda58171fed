"""Reads and writes of TCS on SQLite and on MariaDB."""

from datetime import datetime, timedelta

import polars as pl
import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY
from tests.world import LOCKS, World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.errors import PlanOutdatedError, SchemaError, SourceError
from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.jobs.trusts import PERSON_EMPLOYING_BODY
from tis_sync.reconcile import table_apply
from tis_sync.reconcile.table_plan import Plan, TableSpec, difference
from tis_sync.tcs import connector, schema, shedlock, source
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import KEPT_SECONDS, Source

pytestmark = pytest.mark.servers


def test_an_empty_table_is_read_with_the_declared_types(tcs: World) -> None:
    loaded = Source(tcs.database, TODAY).load([PLACEMENTS], ALL_KEYS)
    assert loaded.frames["Placement"].schema == {
        "id": pl.Int64, "traineeId": pl.Int64, "postId": pl.Int64,
        "dateFrom": pl.Date, "dateTo": pl.Date,
    }  # fmt: skip
    assert loaded.set_aside == []


def test_every_declared_type_is_read_as_it_was_written(tcs: World) -> None:
    funded = {"fundingStatus": "CURRENT"}
    tcs.fill(
        {
            "Post": [
                {"id": 1, "legacy": True, "bypassNPNGeneration": None, "owner": "x "}
                | funded,
                {"id": 2, "legacy": False, "bypassNPNGeneration": True, "owner": "𠮷 %s"}
                | funded,
            ],
            "Placement": [
                {"id": 3, "dateFrom": TODAY, "placementWholeTimeEquivalent": 0.5,
                 "lifecycleState": "DRAFT"},
            ],
        }
    )  # fmt: skip
    reads = [
        Read(t.Post, ("id", "legacy", "bypassNPNGeneration", "owner")),
        Read(t.Placement, ("id", "dateFrom", "dateTo", "placementWholeTimeEquivalent",
                           "lifecycleState")),
        Read(t.Person, ("id", "addedDate")),
    ]  # fmt: skip
    frames = Source(tcs.database, TODAY).load(reads, ALL_KEYS).frames
    assert frames["Post"].sort("id").rows() == [(1, True, None, "x "), (2, False, True, "𠮷 %s")]
    assert frames["Placement"].rows() == [(3, TODAY, None, 0.5, "DRAFT")]
    assert frames["Person"].schema["addedDate"] == pl.Datetime("us")


def test_a_zero_date_in_mysql_becomes_a_missing_date(mariadb_tcs: World) -> None:
    mariadb_tcs.fill({"Placement": [{"id": 3, "traineeId": 1, "dateFrom": TODAY}]})
    with mariadb_tcs.database.write() as connection:
        connection.exec_driver_sql("SET sql_mode = ''")
        connection.exec_driver_sql("UPDATE Placement SET dateTo = '0000-00-00'")
    loaded = Source(mariadb_tcs.database, TODAY).load([PLACEMENTS], ALL_KEYS)
    assert loaded.frames["Placement"].select("dateFrom", "dateTo").rows() == [(TODAY, None)]
    assert loaded.set_aside == []


BAD_DAYS = ("2025-08-00", "2025-00-10", "2025-02-31")
EVENTS = Read(t.PostEsrEvent, ("id", "postId", "eventDateTime"))


@pytest.mark.parametrize("zero", ["0000-00-00", *BAD_DAYS])
def test_a_time_on_a_day_that_does_not_exist_costs_one_record(tcs: World, zero: str) -> None:
    """ConnectorX panics on them, which is not an Exception and once ended a thread in silence."""
    event = {"postId": 7, "positionNumber": 1, "positionId": 1, "status": "RECONCILED"}
    at = datetime(2025, 8, 1, 12, 30, 59)  # noqa: DTZ001  as TCS keeps it
    tcs.fill({"PostEsrEvent": [{"id": n, "eventDateTime": at} | event for n in (1, 2, 3)]})
    tcs.execute_loosely(f"UPDATE PostEsrEvent SET eventDateTime = '{zero} 10:20:30' WHERE id = 2")
    loaded = Source(tcs.database, TODAY).load([EVENTS], ALL_KEYS)
    assert loaded.frames["PostEsrEvent"].sort("id").rows() == [(1, 7, at), (3, 7, at)]
    (bad,) = loaded.set_aside
    assert str(bad) == f"PostEsrEvent 2: eventDateTime '{zero} 10:20:30' is not a date"


@pytest.mark.parametrize("bad_day", BAD_DAYS)
def test_a_date_that_does_not_exist_costs_one_record(tcs: World, bad_day: str) -> None:
    """MySQL's date functions take 2025-02-31 for 3 March."""
    tcs.fill({"Placement": [{"id": n, "traineeId": 1, "dateTo": TODAY} for n in (1, 2)]})
    tcs.execute_loosely(f"UPDATE Placement SET dateTo = '{bad_day}' WHERE id = 2")
    loaded = Source(tcs.database, TODAY).load([PLACEMENTS], ALL_KEYS)
    assert loaded.frames["Placement"]["id"].to_list() == [1]
    assert [str(record) for record in loaded.set_aside] == [
        f"Placement 2: dateTo {bad_day!r} is not a date"
    ]


@pytest.mark.parametrize(
    "at",
    [
        datetime(1000, 1, 1),  # noqa: DTZ001
        datetime(1969, 12, 31, 23, 59, 59),  # noqa: DTZ001
        datetime(2024, 2, 29, 0, 0, 0),  # noqa: DTZ001
        datetime(2026, 10, 25, 1, 30),  # noqa: DTZ001  twice in London
        datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001
    ],
)
def test_times_are_read_exactly(tcs: World, at: datetime) -> None:
    event = {"postId": 7, "positionNumber": 1, "positionId": 1, "status": "RECONCILED"}
    tcs.fill(
        {
            "PostEsrEvent": [{"id": 1, "eventDateTime": at} | event],
            "Person": [{"id": 1, "addedDate": at, "amendedDate": at}],
        }
    )
    person = Read(t.Person, ("id", "amendedDate", "inactiveDate"))
    frames = Source(tcs.database, TODAY).load([EVENTS, person], ALL_KEYS).frames
    assert frames["PostEsrEvent"]["eventDateTime"].to_list() == [at]
    assert frames["Person"].rows() == [(1, at, None)]


def test_fractions_of_a_second_are_read_exactly(mariadb_tcs: World) -> None:
    at = datetime(2026, 3, 2, 23, 59, 59, 999000)  # noqa: DTZ001
    mariadb_tcs.fill({"Person": [{"id": 1, "amendedDate": at}]})
    read = Read(t.Person, ("id", "amendedDate"))
    frames = Source(mariadb_tcs.database, TODAY).load([read], ALL_KEYS).frames
    assert frames["Person"].rows() == [(1, at)]


def test_shared_reads_are_only_kept_for_a_few_minutes(tcs: World) -> None:
    now = 0.0
    source = Source(tcs.database, TODAY, clock=lambda: now)

    def count() -> int:
        return source.load([PLACEMENTS], ALL_KEYS).frames["Placement"].height

    assert count() == 0
    tcs.fill({"Placement": [{"id": 3}]})
    assert count() == 0
    now = KEPT_SECONDS
    assert count() == 1


def test_a_read_that_tcs_refuses_names_its_table(mariadb_tcs: World) -> None:
    mariadb_tcs.execute("DROP TABLE Placement")
    with pytest.raises(SourceError, match="has no table Placement"):
        Source(mariadb_tcs.database, TODAY).load([PLACEMENTS], ALL_KEYS)


def test_everything_missing_from_the_schema_is_named(tcs: World) -> None:
    needed = {t.Person: ["id", "status"], t.Placement: ["id", "dateFrom"]}
    assert schema.check(tcs.database, needed) == []
    tcs.execute("DROP TABLE Person")
    if tcs.database.dialect != "sqlite":
        tcs.execute("ALTER TABLE Placement MODIFY dateFrom FLOAT")
    problems = [str(problem) for problem in schema.check(tcs.database, needed)]
    assert problems[0] == "Person is missing"
    if tcs.database.dialect != "sqlite":
        assert problems[1] == "Placement.dateFrom has type FLOAT, not DATE"
    with pytest.raises(SchemaError, match="Person is missing"):
        schema.require(tcs.database, needed)


def spec_of(job: Job) -> TableSpec:
    assert isinstance(job.target, TableTarget)
    return job.target.spec


OWNER = spec_of(PERSON_OWNER)


def owner_plan(world: World, desired: list[tuple[int, str | None, str | None]]) -> Plan:
    """A plan for PersonOwner, from its current contents."""
    columns = {"id": pl.Int64, "owner": pl.String, "rule": pl.String}
    existing = world.rows(t.PersonOwner, "id", "owner", "rule")
    return difference(
        OWNER,
        pl.LazyFrame(desired, schema=columns, orient="row"),
        pl.LazyFrame(existing, schema=columns, orient="row"),
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE PersonOwner SET owner = 'Other' WHERE id = 2",
        "UPDATE PersonOwner SET owner = NULL WHERE id = 2",
        "DELETE FROM PersonOwner WHERE id = 2",
        "DELETE FROM PersonOwner WHERE id = 3",
        "UPDATE PersonOwner SET rule = 'P8' WHERE id = 3",
        "INSERT INTO PersonOwner (id, owner) VALUES (1, 'Trigger')",
    ],
)
def test_an_outdated_plan_is_rolled_back_completely(tcs: World, change: str) -> None:
    tcs.fill(
        {
            "PersonOwner": [
                {"id": 2, "owner": "A", "rule": "P1"},
                {"id": 3, "owner": "B", "rule": None},
            ]
        }
    )
    desired: list[tuple[int, str | None, str | None]] = [(1, "N", "P1"), (2, None, None)]
    plan = owner_plan(tcs, desired)
    assert (plan.added.height, plan.changed.height, plan.removed.height) == (1, 1, 1)
    tcs.execute(change)
    before = tcs.rows(t.PersonOwner, "id", "owner", "rule")
    with pytest.raises(PlanOutdatedError, match="PersonOwner"):
        table_apply.apply(tcs.database, OWNER, plan, lambda: None, LOCKS)
    assert tcs.rows(t.PersonOwner, "id", "owner", "rule") == before
    table_apply.apply(tcs.database, OWNER, owner_plan(tcs, desired), lambda: None, LOCKS)
    assert tcs.rows(t.PersonOwner, "id", "owner", "rule") == desired


def test_a_replacement_that_fails_leaves_the_table_as_it_was(tcs: World) -> None:
    tcs.fill({"PersonOwner": [{"id": 2, "owner": "A"}]})
    good = pl.DataFrame({"id": [7], "owner": ["N"], "rule": ["P1"]})
    with pytest.raises(sa.exc.IntegrityError):
        table_apply.replace(tcs.database, OWNER, [good, good], lambda: None, LOCKS[0])
    assert tcs.rows(t.PersonOwner, "id") == [(2,)]
    table_apply.replace(tcs.database, OWNER, [good], lambda: None, LOCKS[0])
    assert tcs.rows(t.PersonOwner, "id") == [(7,)]


def test_a_person_deleted_while_the_job_runs_costs_nothing(tcs: World) -> None:
    demo.generate(tcs.database, demo.Size(60), TODAY, legacy_tables)
    tcs.settle(PERSON_EMPLOYING_BODY, AsOf.on(TODAY))
    tcs.execute("DELETE FROM Placement WHERE traineeId = 5")
    (plan,) = tcs.settle(PERSON_EMPLOYING_BODY, AsOf.on(TODAY))
    assert set(plan.removed["personId"]) <= {5}


def test_the_lock_of_the_java_service_is_taken_and_freed(tcs: World) -> None:
    hour = timedelta(hours=1)
    assert shedlock.take(tcs.database, "job", "us", NOW, hour) is None
    assert shedlock.take(tcs.database, "job", "us", NOW, hour) is None
    taken = shedlock.take(tcs.database, "job", "them", NOW, hour)
    assert taken == ("us", NOW + hour)
    assert shedlock.take(tcs.database, "other", "them", NOW, hour) is None
    shedlock.release(tcs.database, "job", "them", NOW)
    assert shedlock.take(tcs.database, "job", "them", NOW, hour) is not None
    shedlock.release(tcs.database, "job", "us", NOW)
    assert shedlock.take(tcs.database, "job", "them", NOW, hour) is None
    assert shedlock.take(tcs.database, "job", "us", NOW + hour, hour) is None


def test_the_demo_data_has_the_shapes_that_matter_and_is_the_same_every_time(tcs: World) -> None:
    rows = demo.generate(tcs.database, demo.Size(2000), TODAY, legacy_tables)
    assert rows["Person"] == 2000

    def count(sql: str) -> int:
        with tcs.database.read() as connection:
            return int(connection.execute(sa.text(sql)).scalar() or 0)

    today = f"'{TODAY}'"
    current = f"dateFrom <= {today} AND dateTo >= {today}"
    twice = f"SELECT traineeId FROM Placement WHERE {current} GROUP BY 1 HAVING count(*) = 2"
    repeated = "SELECT personId FROM PersonTrust GROUP BY personId, trustId HAVING count(*) > 1"
    for shape in (
        "SELECT count(*) FROM Person WHERE id NOT IN (SELECT traineeId FROM Placement)",
        f"SELECT count(*) FROM ({twice}) x",
        "SELECT count(*) FROM Post WHERE employingBodyId = trainingBodyId",
        "SELECT count(*) FROM Post WHERE owner IS NULL OR employingBodyId IS NULL",
        "SELECT count(*) FROM Person WHERE id NOT IN (SELECT id FROM ContactDetails)",
        "SELECT count(*) FROM Person WHERE id NOT IN (SELECT id FROM GmcDetails)",
        "SELECT count(*) FROM Placement WHERE dateFrom IS NULL OR dateTo IS NULL",
        "SELECT count(*) FROM Placement WHERE lifecycleState = 'DRAFT'",
        "SELECT count(*) FROM ContactDetails WHERE surname = '𠮷田'",
        f"SELECT count(*) FROM ({repeated}) x",
        f"SELECT count(*) FROM ProgrammeMembership WHERE programmeStartDate = {today}",
    ):
        assert count(shape) > 0, shape
    before = tcs.rows(t.PersonTrust, "id", "personId", "trustId")
    tcs.fill({})
    demo.generate(tcs.database, demo.Size(2000), TODAY, legacy_tables)
    assert tcs.rows(t.PersonTrust, "id", "personId", "trustId") == before


@pytest.mark.alone
def test_data_is_inserted_if_the_server_does_not_accept_files(mariadb_tcs: World) -> None:
    frame = pl.DataFrame({"id": [1, 2], "owner": ["a", None], "rule": ["P1", 'q"\\']})
    with mariadb_tcs.database.read() as connection:
        connection.exec_driver_sql("SET GLOBAL local_infile = 0")
        try:
            demo.load(mariadb_tcs.database, t.PersonOwner, frame)
        finally:
            connection.exec_driver_sql("SET GLOBAL local_infile = 1")
    demo.load(mariadb_tcs.database, t.PersonOwner, frame.with_columns(pl.col("id") + 5))
    found = mariadb_tcs.rows(t.PersonOwner, "id", "owner", "rule")
    assert found == [(1, "a", "P1"), (2, None, 'q"\\'), (6, "a", "P1"), (7, None, 'q"\\')]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_small_tables_are_read_by_the_driver_with_the_same_result(
    mariadb_tcs: World, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    demo.generate(mariadb_tcs.database, demo.Size(60), TODAY, legacy_tables)
    columnar = Source(mariadb_tcs.database, TODAY).load(job.target.reads, ALL_KEYS)
    monkeypatch.setattr(source, "SMALL_ROWS", 10**9)
    monkeypatch.setattr(source, "read_columns", None)  # so it is not used
    by_driver = Source(mariadb_tcs.database, TODAY).load(job.target.reads, ALL_KEYS)
    assert by_driver.set_aside == columnar.set_aside
    for name, frame in columnar.frames.items():
        order = frame.columns
        assert by_driver.frames[name].sort(order).equals(frame.sort(order)), name


def test_a_table_that_has_grown_is_read_in_columns(
    mariadb_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.generate(mariadb_tcs.database, demo.Size(60), TODAY)
    monkeypatch.setattr(source, "SMALL_ROWS", 10)
    monkeypatch.setattr(connector, "SMALL_ROWS", 10)
    monkeypatch.setattr(Source, "_is_small", lambda *_: True)  # what the server last counted
    frames = Source(mariadb_tcs.database, TODAY).load(PERSON_OWNER.target.reads, ALL_KEYS).frames
    assert frames["Person"].height == 60
    with mariadb_tcs.database.read() as connection:  # the session is as it was
        assert "STRICT" in str(connection.exec_driver_sql("SELECT @@sql_mode").scalar())
