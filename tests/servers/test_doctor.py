"""The checklist of what the service relies on: all well, and each thing that can drift."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.cli.conftest import Program, program
from tests.conftest import TODAY, Clock
from tests.exporting import generate
from tests.running import run_night, working
from tests.world import World
from tis_sync import doctor
from tis_sync.doctor import Finding, examine
from tis_sync.errors import SchemaError
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.tcs import demo

__all__ = ["program"]


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.engine, demo.Size(200), TODAY)
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def bad(s: Services) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(s) if finding.state != "ok"}


def test_after_a_night_with_a_worker_everything_is_as_it_should_be(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        run_night(s)
        generate(s)
        assert bad(s) == {}
        found = examine(s)
        assert len(found) > 25
        assert all(finding.mend is None for finding in found)
        assert not (settings.home / "esr" / ".tis-sync-probe").exists()


def test_each_thing_that_is_missing_is_named_with_how_to_mend_it(
    settings: Settings, embedded_tcs: World
) -> None:
    (settings.home / "file").write_text("")
    wrong = settings.model_copy(
        update={
            "esr_deaneries": {"ABC": "XYZ"}, "esr_first_numbers": {"APX": 1},
            "esr_retry_seconds": (), "clock_offset_seconds": 60.0,
            "export_url": Settings(export_url=f"file://{settings.home}/file/x").export_url,
        }
    )  # fmt: skip
    embedded_tcs.execute("ALTER TABLE PersonTrust RENAME COLUMN trustId TO other")
    with working(wrong) as s:
        found = bad(s)
    said = {name: (finding.state, finding.said) for name, finding in found.items()}
    assert said["setting TIS_SYNC_ESR_DEANERIES"] == ("drifted", "no deaneries: XYZ")
    assert said["setting TIS_SYNC_ESR_FIRST_NUMBERS"] == ("drifted", "no types: APX")
    assert said["retry policy"] == ("drifted", "an export command is never tried again")
    assert "a rehearsal" in said["setting TIS_SYNC_CLOCK_OFFSET_SECONDS"][1]
    assert said["TCS schema"] == ("missing", "PersonTrust.trustId is missing")
    assert "refuses us" in said["export destination"][1]
    assert said["index persons"] == ("missing", "no such alias")
    assert said["schedules"] == ("missing", "none is registered")
    assert said["PersonOwnerRebuildJob"] == ("missing", "succeeded never")
    assert said["records for ESR"] == ("missing", "brought up to date never")
    assert found["index persons"].mend == "`tis-sync run PersonElasticSearchSyncJob`"
    assert all(finding.mend for finding in found.values())


@pytest.mark.servers
def test_a_right_that_tcs_does_not_grant_is_missing(mariadb_tcs: World, tmp_path: Path) -> None:
    url = make_url(mariadb_tcs.url)
    user = f"reader_{tmp_path.name[-12:]}"[:30].replace("-", "_")
    mariadb_tcs.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'x'")
    try:
        mariadb_tcs.execute(f"GRANT SELECT ON {url.database}.* TO '{user}'@'127.0.0.1'")
        theirs = url.set(username=user, password="x", host="127.0.0.1")
        settings = Settings(
            home=tmp_path, tcs_url=theirs.render_as_string(hide_password=False), esr=False
        )
        with working(settings) as s:
            found = bad(s)
        assert "the user lacks a right" in found["TCS rights"].said
        assert "clock" in found  # the test's day is not the server's
    finally:
        mariadb_tcs.execute(f"DROP USER '{user}'@'127.0.0.1'")


def test_drift_is_an_alarm_every_hour_and_closes_when_it_is_mended(settings: Settings) -> None:
    clock = Clock()
    with working(settings, clock, scheduler=True) as s:
        doctor.watch(s)
        drift = {alarm.subject for alarm in s.alarms.open() if alarm.kind == "drift"}
        assert drift == {"index persons", "index posts"}
        run_night(s)
        doctor.watch(s)
        assert {alarm.subject for alarm in s.alarms.open() if alarm.kind == "drift"} == drift
        clock.forward(hours=1)
        doctor.watch(s)
        assert [alarm for alarm in s.alarms.open() if alarm.kind == "drift"] == []


def test_a_state_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path))
    with services.state.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text("UPDATE tis_sync_version SET version_num = '9999'"))
    services.close()
    with pytest.raises(SchemaError, match="used by a newer tis-sync"):
        _ = Services(Settings(home=tmp_path)).state


def test_the_command_says_so_with_its_exit_code(program: Program) -> None:
    assert program("demo", "--people", "200").code == 0
    ended = program("doctor")
    assert ended.code == 1
    assert "`tis-sync work` registers them" in ended.out
    found = program("doctor", "--json").json
    assert {f["name"] for f in found if f["state"] != "ok"} == {
        "schedules", "setting TIS_SYNC_CLOCK_OFFSET_SECONDS",
    }  # fmt: skip
