"""Partitions of tables not clustered on the partition key: read once, planned again if outdated."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.db.database import Database
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.base import AsOf, TableTarget
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.jobs.trusts import PERSON_EMPLOYING_BODY
from tis_sync.reconcile import table_apply as table
from tis_sync.reconcile.table_plan import Plan, TableSpec
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import source as source_module
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import key_ranges
from tis_sync.tcs.source import Source

pytestmark = pytest.mark.servers
PEOPLE = 200
WIDTH = 48
TRUSTS = "PersonPlacementEmployingBodyTrustJob"


@pytest.fixture
def filled(tcs: World) -> World:
    demo.generate(tcs.database, demo.Size(PEOPLE), TODAY, legacy_tables)
    return tcs


@pytest.fixture
def services(filled: World, tmp_path: Path) -> Iterator[Services]:
    settings = Settings(home=tmp_path, tcs_url=filled.url, partition_keys=WIDTH, guard_share=1.0)
    with working(settings) as services:
        yield services


@pytest.mark.parametrize("rows", [7, 50, 500_000])
def test_a_spooled_range_equals_a_direct_read_of_the_range(
    filled: World, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "ROWS_PER_SCAN", rows)
    for job in JOBS:
        source = Source(filled.database, TODAY, tmp_path)
        target = (
            job.target.spec.partition_column
            if isinstance(job.target, TableTarget)
            else t.Person.c.id
        )
        for keys in key_ranges(filled.database, [target], WIDTH):
            reads = [read for read in job.target.reads if read.partition_column is not None]
            spooled = source.load(reads, keys).frames
            direct = source.load(reads, keys, fresh=True).frames
            for name, frame in direct.items():
                assert spooled[name].schema == frame.schema
                assert sorted(spooled[name].rows(), key=repr) == sorted(frame.rows(), key=repr)


def test_a_bad_value_is_reported_once_with_the_first_partition(
    filled: World, tmp_path: Path
) -> None:
    if filled.database.dialect != "sqlite":
        filled.execute("ALTER TABLE Placement MODIFY dateTo VARCHAR(20)")
    with filled.database.read() as connection:
        most = connection.scalar(sa.select(sa.func.max(t.Placement.c.id)))
    filled.execute(f"UPDATE Placement SET dateTo = 'soon' WHERE id = {most}")
    source = Source(filled.database, TODAY, tmp_path)
    reported = [
        str(record)
        for keys in key_ranges(filled.database, [t.Person.c.id], WIDTH)
        for record in source.load([PLACEMENTS], keys).set_aside
    ]
    assert reported == [f"Placement {most}: dateTo 'soon' is not a date"]


def disturb(monkeypatch: pytest.MonkeyPatch, world: World, times: int) -> None:
    """Before a plan of PersonTrust is applied, TCS removes a row that the plan removes."""
    apply = table.apply
    left = times
    ids = count(10_000_000, 100_000)  # SQLite would give the id of the removed row again

    def applied(database: Database, spec: TableSpec, plan: Plan, *rest: Any) -> None:
        nonlocal left
        if not plan.removed.is_empty() and left:
            left -= 1
            gone = t.PersonTrust.c.id == plan.removed["id"][0]
            world.execute(sa.delete(t.PersonTrust).where(gone))
            # Something else to remove, or the next plan would have nothing to do here.
            person = plan.removed["personId"][0]
            row = {"id": next(ids), "personId": person, "trustId": 999_999}
            world.execute(sa.insert(t.PersonTrust).values(row))
        apply(database, spec, plan, *rest)

    monkeypatch.setattr(table, "apply", applied)


def test_an_outdated_plan_is_made_again_from_tcs(
    services: Services, filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, filled, times=3)
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "succeeded", run.error
    assert (run.partitions or 0) > 2
    assert filled.settle(PERSON_EMPLOYING_BODY, AsOf.on(TODAY), width=WIDTH)[0].is_empty


def test_a_plan_that_tcs_repeatedly_outdates_is_reported(
    services: Services, filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, filled, times=1000)
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "failed"
    assert "made 5 times, and TCS changed each time" in (run.error or "")
    assert f"`tis-sync run {TRUSTS}`" in (run.error or "")
