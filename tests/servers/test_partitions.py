"""Partitions of tables that lie in another order than their keys: read once, planned afresh."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.jobs.base import AsOf, TableProduct
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.leftovers import left_by_old_service
from tis_sync.jobs.person_trust import PERSON_EMPLOYING_BODY
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.reconcile import table
from tis_sync.reconcile.plan import Plan, TableTarget
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.tcs import demo
from tis_sync.tcs import source as source_module
from tis_sync.tcs import tables as t
from tis_sync.tcs.source import Source
from tis_sync.tcs.spans import spans

pytestmark = pytest.mark.servers
PEOPLE = 200
WIDTH = 48
TRUSTS = "PersonPlacementEmployingBodyTrustJob"


@pytest.fixture
def filled(tcs: World) -> World:
    demo.generate(tcs.engine, demo.Size(PEOPLE), TODAY, left_by_old_service)
    return tcs


@pytest.fixture
def services(filled: World, tmp_path: Path) -> Iterator[Services]:
    settings = Settings(home=tmp_path, tcs_url=filled.url, partition_keys=WIDTH, guard_share=1.0)
    with working(settings) as services:
        yield services


@pytest.mark.parametrize("rows", [7, 50, 500_000])
def test_what_is_spooled_is_what_a_read_of_the_range_gives(
    filled: World, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "ROWS_A_SCAN", rows)
    for job in JOBS:
        source = Source(filled.engine, TODAY, tmp_path)
        target = job.product.target.by if isinstance(job.product, TableProduct) else t.Person.c.id
        for keys in spans(filled.engine, [target], WIDTH):
            reads = [read for read in job.product.reads if read.by is not None]
            spooled = source.load(reads, keys).frames
            direct = source.load(reads, keys, fresh=True).frames
            for name, frame in direct.items():
                assert spooled[name].schema == frame.schema
                assert sorted(spooled[name].rows(), key=repr) == sorted(frame.rows(), key=repr)


def test_a_bad_value_is_told_once_with_the_first_partition(filled: World, tmp_path: Path) -> None:
    if filled.engine.dialect.name != "sqlite":
        filled.execute("ALTER TABLE Placement MODIFY dateTo VARCHAR(20)")
    with filled.engine.connect() as connection:
        most = connection.scalar(sa.select(sa.func.max(t.Placement.c.id)))
    filled.execute(f"UPDATE Placement SET dateTo = 'soon' WHERE id = {most}")
    source = Source(filled.engine, TODAY, tmp_path)
    told = [
        str(record)
        for keys in spans(filled.engine, [t.Person.c.id], WIDTH)
        for record in source.load([PLACEMENTS], keys).set_aside
    ]
    assert told == [f"Placement {most}: dateTo 'soon' is not a date"]


def disturb(monkeypatch: pytest.MonkeyPatch, world: World, times: int) -> None:
    """Whenever a plan of PersonTrust is about to be applied, TCS takes away what it would."""
    apply = table.apply
    left = times

    def applied(engine: sa.Engine, target: TableTarget, plan: Plan) -> None:
        nonlocal left
        if not plan.removed.is_empty() and left:
            left -= 1
            gone = t.PersonTrust.c.id == plan.removed["id"][0]
            world.execute(sa.delete(t.PersonTrust).where(gone))
            # Something else to remove, or the next plan would have nothing to do here.
            person = plan.removed["personId"][0]
            world.execute(sa.insert(t.PersonTrust).values(personId=person, trustId=999_999))
        apply(engine, target, plan)

    monkeypatch.setattr(table, "apply", applied)


def test_a_plan_that_tcs_outdates_is_planned_again_as_tcs_is_now(
    services: Services, filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, filled, times=3)
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "succeeded", run.error
    assert (run.partitions or 0) > 2
    assert filled.settle(PERSON_EMPLOYING_BODY, AsOf.on(TODAY), width=WIDTH)[0].is_empty


def test_a_plan_that_tcs_keeps_outdating_is_reported(
    services: Services, filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, filled, times=1000)
    (run,) = run_job(services, TRUSTS, follow_ups=False)
    assert run.state == "failed"
    assert "planned 5 times, and TCS changed each time" in (run.error or "")
    assert f"`tis-sync run {TRUSTS}`" in (run.error or "")
