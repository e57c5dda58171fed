"""S4, 2021-03-16: all jobs failed, because a code in TCS was no longer a number."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.running import run_night, working
from tests.world import World
from tis_sync.alarms.catalogue import SET_ASIDE
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers


def test_a_bad_value_costs_one_record_and_is_reported_by_name(tcs: World, tmp_path: Path) -> None:
    demo.generate(tcs.database, demo.Size(200), TODAY, legacy_tables)
    if tcs.database.dialect != "sqlite":
        tcs.execute("ALTER TABLE Placement MODIFY gradeId VARCHAR(20), MODIFY dateTo VARCHAR(20)")
    current = sa.and_(t.Placement.c.dateFrom <= TODAY, t.Placement.c.dateTo >= TODAY)
    with tcs.database.read() as connection:
        ids = connection.scalars(sa.select(t.Placement.c.id).where(current).limit(2)).all()
    tcs.execute(f"UPDATE Placement SET gradeId = 'F2' WHERE id = {ids[0]}")
    tcs.execute(f"UPDATE Placement SET dateTo = 'soon' WHERE id = {ids[1]}")
    with working(Settings(home=tmp_path, tcs_url=tcs.url)) as services:
        night, *runs = run_night(services)
        assert night.state == "succeeded", [run.error for run in runs]
        by_job = {run.job: services.history.set_aside(run.id) for run in runs}
    assert by_job["PersonElasticSearchSyncJob"].count(
        f"Placement {ids[0]}: gradeId 'F2' is not a number"
    ) == 1  # fmt: skip
    reported = [line for lines in by_job.values() for line in lines]
    assert f"Placement {ids[1]}: dateTo 'soon' is not a date" in reported


def test_many_bad_values_open_an_alarm(embedded_tcs: World, tmp_path: Path) -> None:
    demo.generate(embedded_tcs.database, demo.Size(100), TODAY, legacy_tables)
    embedded_tcs.execute("UPDATE Placement SET postId = 'X' || postId WHERE id % 20 = 1")
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, set_aside_limit=3, guard_share=1)
    with working(settings) as services:
        assert run_night(services)[0].state == "succeeded"
        kinds = {(alarm.kind, alarm.subject) for alarm in services.alarms.open_alarms()}
        assert (SET_ASIDE, "PersonOwnerRebuildJob") in kinds
        embedded_tcs.execute("UPDATE Placement SET postId = substr(postId, 2) WHERE id % 20 = 1")
        assert run_night(services)[0].state == "succeeded"
        assert services.alarms.open_alarms() == []
