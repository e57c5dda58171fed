"""The alarm about records that a job could not use follows the final count of each real run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.running import run_job, working
from tests.world import World
from tis_sync.alarms.catalogue import SET_ASIDE
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.runs.services import Services
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import Delivery
from tis_sync.settings.model import Settings
from tis_sync.state import tables as state
from tis_sync.tcs import tables as t

INDEX, OWNERS = "PersonElasticSearchSyncJob", "PersonOwnerRebuildJob"
RENAMED = 8  # people; few enough that the index is changed in place


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(100), TODAY, legacy_tables)
    return Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, set_aside_limit=3, guard_share=1, guard_rows=0
    )


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with working(settings) as services:
        yield services


def spoil(tcs: World) -> None:
    tcs.execute("UPDATE Placement SET postId = 'X' || postId WHERE id % 20 = 1")


def repair(tcs: World) -> None:
    tcs.execute("UPDATE Placement SET postId = substr(postId, 2) WHERE id % 20 = 1")


def titles(s: Services) -> list[str]:
    """The titles of the notifications about records that were set aside, oldest first."""
    with s.state.read() as connection:
        found = connection.scalars(sa.select(state.notification.c.title).order_by("id"))
        return [title for title in found if "set aside" in title]


def is_open(s: Services, job: str) -> bool:
    return [alarm.subject for alarm in s.alarms.open_alarms(SET_ASIDE)] == [job]


def test_documents_that_are_refused_every_night_are_reported_once(
    services: Services, embedded_tcs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_job(services, INDEX)[0].state == "succeeded"
    renamed = sa.update(t.ContactDetails).where(t.ContactDetails.c.id <= RENAMED)
    embedded_tcs.execute(renamed.values(surname="Renamed"))
    write = EmbeddedEngine.write

    def refusing(engine: EmbeddedEngine, index: str, documents: Any, *rest: Any) -> Delivery:
        frames = list(documents)
        if not any(frame.height for frame in frames):
            return write(engine, index, frames, *rest)
        ids = [document for frame in frames for document in frame["id"]]
        return Delivery(refused=[(document, "no") for document in ids])

    monkeypatch.setattr(EmbeddedEngine, "write", refusing)
    for _ in range(2):
        (run,) = run_job(services, INDEX)
        assert run.state == "succeeded"
        assert (run.set_aside or 0) > 3
    assert run_job(services, INDEX, dry_run=True)[0].state == "succeeded"
    assert is_open(services, INDEX)
    assert titles(services) == [f"{INDEX}: set aside"]
    monkeypatch.undo()
    assert run_job(services, INDEX)[0].set_aside == 0
    assert len(titles(services)) == 2
    assert not is_open(services, INDEX)


def test_a_dry_run_does_not_open_the_alarm(services: Services, embedded_tcs: World) -> None:
    spoil(embedded_tcs)
    (run,) = run_job(services, OWNERS, dry_run=True)
    assert (run.set_aside or 0) > 3
    assert titles(services) == []


def test_a_run_that_replaces_a_table_counts_what_it_could_not_use(
    services: Services, embedded_tcs: World
) -> None:
    spoil(embedded_tcs)
    (run,) = run_job(services, OWNERS, rebuild=True, follow_ups=False)
    assert run.state == "succeeded"
    assert (run.set_aside or 0) == len(services.history.set_aside(run.id)) > 3
    assert is_open(services, OWNERS)
    repair(embedded_tcs)
    (run,) = run_job(services, OWNERS, rebuild=True, follow_ups=False)
    assert (run.state, run.set_aside) == ("succeeded", 0)
    assert not is_open(services, OWNERS)


def test_a_held_run_reports_the_records_that_it_could_not_use(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as services:
        assert run_job(services, OWNERS, follow_ups=False)[0].state == "succeeded"
    embedded_tcs.execute("UPDATE Placement SET postId = 'X' || postId")
    embedded_tcs.execute("UPDATE ProgrammeMembership SET programmeId = 'X'")
    with working(settings.model_copy(update={"guard_share": 0.01})) as services:
        (run,) = run_job(services, OWNERS, follow_ups=False)
        assert run.state == "held"
        assert is_open(services, OWNERS)


def test_a_held_run_says_nothing_about_documents_that_were_refused(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings) as services:
        assert run_job(services, OWNERS, follow_ups=False)[0].state == "succeeded"
        now = services.clock()
        services.alarms.open(SET_ASIDE, OWNERS, "9 records could not be used.", now, run="1")
    embedded_tcs.execute(sa.delete(t.Placement))
    embedded_tcs.execute(sa.delete(t.ProgrammeMembership))
    with working(settings.model_copy(update={"guard_share": 0.01})) as services:
        (run,) = run_job(services, OWNERS, follow_ups=False)
        assert (run.state, run.set_aside) == ("held", 0)
        assert is_open(services, OWNERS)
