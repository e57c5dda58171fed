"""The checks of `tis-sync doctor`: all of them can pass, and everything that drifts is found."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.cli.conftest import Program, program
from tests.conftest import TODAY, Clock
from tests.exporting import generate
from tests.running import run_night, working
from tests.world import World
from tis_sync.alarms.catalogue import DRIFT
from tis_sync.alarms.check_state import CheckState
from tis_sync.demo import generate as demo
from tis_sync.doctor import Finding, check_drift, examine
from tis_sync.errors import SchemaError
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.runs.schedule import pause, unpause
from tis_sync.runs.services import Services
from tis_sync.settings import Settings

__all__ = ["program"]


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY)
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def failed_checks(s: Services) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(s) if finding.state != CheckState.OK}


def drift(s: Services) -> dict[str, str]:
    """The texts of the open alarms about drift, by check."""
    return {alarm.subject: alarm.text for alarm in s.alarms.open_alarms() if alarm.kind == DRIFT}


def test_every_check_passes_after_a_night_with_a_worker(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        run_night(s)
        generate(s)
        assert failed_checks(s) == {}
        findings = examine(s)
        assert len(findings) > 25
        assert all(finding.remedy is None for finding in findings)
        assert not (settings.home / "esr" / ".tis-sync-probe").exists()


def test_each_failed_check_is_named_with_its_remedy(
    settings: Settings, embedded_tcs: World
) -> None:
    (settings.home / "file").write_text("")
    wrong = settings.model_copy(
        update={
            "esr_deaneries": {"ABC": "XYZ"}, "esr_last_numbers": {"APX": 1},
            "esr_retry_seconds": (), "clock_offset_seconds": 60.0,
            "export_url": Settings(export_url=f"file://{settings.home}/file/x").export_url,
        }
    )  # fmt: skip
    embedded_tcs.execute("ALTER TABLE PersonTrust RENAME COLUMN trustId TO other")
    with working(wrong) as s:
        failed = failed_checks(s)
    found = {name: (finding.state, finding.message) for name, finding in failed.items()}
    assert found["setting TIS_SYNC_ESR_DEANERIES"] == ("drifted", "not deaneries: XYZ")
    assert found["setting TIS_SYNC_ESR_LAST_NUMBERS"] == ("drifted", "not file types: APX")
    assert found["retry policy"] == ("drifted", "a failed export command is never retried")
    assert "a rehearsal" in found["setting TIS_SYNC_CLOCK_OFFSET_SECONDS"][1]
    assert found["TCS schema"] == ("missing", "PersonTrust.trustId is missing")
    assert "refuses access" in found["export destination"][1]
    assert found["index persons"] == ("missing", "the alias does not exist")
    assert found["schedules"] == ("missing", "none is registered")
    assert found["PersonOwnerRebuildJob"] == ("missing", "never succeeded")
    assert found["records for ESR"] == ("missing", "never refreshed")
    remedy = "run the job: `tis-sync run PersonElasticSearchSyncJob`"
    assert failed["index persons"].remedy == remedy
    assert all(finding.remedy for finding in failed.values())


@pytest.mark.servers
def test_a_privilege_that_tcs_does_not_grant_is_missing(mariadb_tcs: World, tmp_path: Path) -> None:
    url = make_url(mariadb_tcs.url)
    user = f"reader_{tmp_path.name[-12:]}"[:30].replace("-", "_")
    mariadb_tcs.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'x'")
    try:
        mariadb_tcs.execute(f"GRANT SELECT ON {url.database}.* TO '{user}'@'127.0.0.1'")
        reader = url.set(username=user, password="x", host="127.0.0.1")
        settings = Settings(
            home=tmp_path, tcs_url=reader.render_as_string(hide_password=False), esr=False
        )
        with working(settings) as s:
            failed = failed_checks(s)
        assert "the user lacks a privilege" in failed["TCS privileges"].message
        assert "clock" in failed  # the day of the tests is not that of the server
    finally:
        mariadb_tcs.execute(f"DROP USER '{user}'@'127.0.0.1'")


def test_drift_is_an_alarm_that_closes_within_an_hour_after_it_is_fixed(
    settings: Settings,
) -> None:
    clock = Clock()
    with working(settings, clock, scheduler=True) as s:
        check_drift(s)
        assert set(drift(s)) == {"index persons", "index posts"}
        assert drift(s)["index posts"] == (
            "index posts: the alias does not exist (missing). Run the job: `tis-sync run "
            "PostElasticSearchSyncJob`. See every check: `tis-sync doctor`."
        )
        run_night(s)
        check_drift(s)
        assert set(drift(s)) == {"index persons", "index posts"}
        clock.forward(hours=1)
        check_drift(s)
        assert drift(s) == {}


def test_a_paused_schedule_is_drift(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        pause(s, PERSON_OWNER)
        paused = failed_checks(s)["schedule PersonOwnerRebuildJob"]
        assert (paused.state, paused.message) == (CheckState.DRIFTED, "is paused")
        assert paused.remedy == "unpause it: `tis-sync unpause PersonOwnerRebuildJob`"
        unpause(s, PERSON_OWNER)
        assert "schedule PersonOwnerRebuildJob" not in failed_checks(s)


def test_a_state_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path))
    with services.state.write() as connection:
        connection.execute(sa.text("UPDATE tis_sync_version SET version_num = '9999'"))
    services.close()
    with pytest.raises(SchemaError, match="used by a newer tis-sync"):
        _ = Services(Settings(home=tmp_path)).state


def test_the_command_prints_remedies_and_fails_if_a_check_fails(program: Program) -> None:
    assert program("demo", "--people", "200").code == 0
    result = program("doctor")
    assert result.code == 1
    assert "`tis-sync work` registers them" in result.out
    findings = program("doctor", "--json").json
    assert {f["name"] for f in findings if f["state"] != "ok"} == {
        "schedules", "setting TIS_SYNC_CLOCK_OFFSET_SECONDS",
    }  # fmt: skip
