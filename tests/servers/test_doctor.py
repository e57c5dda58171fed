"""The checks of `tis-sync doctor`: all of them can pass, and everything that drifts is found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from tests.channels import Mood, channel_server
from tests.cli.conftest import Program, program
from tests.conftest import TODAY, Clock
from tests.exporting import generate
from tests.running import run_night, working
from tests.world import World
from tis_sync.alarms.catalogue import DRIFT, Severity
from tis_sync.alarms.catalogue import FAILED as JOB_FAILED
from tis_sync.alarms.check_state import CheckState
from tis_sync.app import examine, schedules
from tis_sync.demo import generate as demo
from tis_sync.doctor.drift import check_drift
from tis_sync.doctor.finding import FAILED, Finding, summary
from tis_sync.doctor.tcs import needed_columns, needs_of
from tis_sync.errors import SchemaError
from tis_sync.esr.applicants.too_late import check_too_late
from tis_sync.esr.export.explain import explain
from tis_sync.esr.notifications.notification_load import load_missed_days
from tis_sync.esr.notifications.selection import select_notifications
from tis_sync.jobs.catalogue import job_named
from tis_sync.jobs.person_owner import PERSON_OWNER
from tis_sync.runs.request import request_night, request_run
from tis_sync.runs.run import RunOptions, RunState, Trigger
from tis_sync.runs.services import OnFirstUse, Services
from tis_sync.search.connect import connect as connect_search
from tis_sync.settings.model import Settings
from tis_sync.tcs import schema
from tis_sync.tcs import tables as t
from tis_sync.tcs.needs import Needs, Privilege
from tis_sync.workers.schedule import pause, unpause

__all__ = ["program"]


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY)
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def failed_checks(s: Services) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(s) if finding.state in FAILED}


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
        not_checked = [f for f in findings if f.state == CheckState.NOT_CHECKED]
        assert [f.name for f in not_checked] == ["notification channels"]
        assert all(f.remedy is None for f in findings if f not in not_checked)
        count = len(findings)
        assert summary(findings) == f"{count - 1} of {count} checks passed, 1 not checked."
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


@pytest.fixture
def limited(mariadb_tcs: World, tmp_path: Path) -> Iterator[tuple[Settings, str]]:
    """Settings with a user of TCS who has no privileges yet; the user, for GRANT."""
    url = make_url(mariadb_tcs.url)
    name = f"limited_{url.database}"[-30:]
    user = f"'{name}'@'127.0.0.1'"
    mariadb_tcs.execute(f"CREATE USER {user} IDENTIFIED BY 'x'")
    reader = url.set(username=name, password="x", host="127.0.0.1")
    demo.generate(mariadb_tcs.database, demo.Size(60), TODAY)
    # Without this, the user may not even connect to the database.
    mariadb_tcs.execute(f"GRANT CREATE TEMPORARY TABLES ON {url.database}.* TO {user}")
    settings = Settings(
        home=tmp_path, tcs_url=SecretStr(reader.render_as_string(hide_password=False)),
        java_shedlock=True,
    )  # fmt: skip
    yield settings, user
    mariadb_tcs.execute(f"DROP USER {user}")


def grant(world: World, needs: Needs, user: str, *, verb: str = "GRANT", to: str = "TO") -> None:
    """Grant (or revoke) exactly what is needed: SELECT by table, as SHOW CREATE TABLE needs it."""
    for (table, privilege), columns in needs.items():
        by_column = columns and privilege != Privilege.SELECT
        names = f" ({', '.join(sorted(columns))})" if by_column else ""
        world.execute(f"{verb} {privilege}{names} ON {table.name} {to} {user}")


@pytest.mark.servers
def test_the_privileges_that_doctor_knows_are_enough_for_a_night_and_an_export(
    mariadb_tcs: World, limited: tuple[Settings, str]
) -> None:
    settings, user = limited
    grant(mariadb_tcs, needs_of(Services(settings)), user)
    with working(settings) as s:
        findings = examine(s, {"TCS privileges", "TCS schema"})
        assert [finding for finding in findings if finding.state != CheckState.OK] == []
        runs = run_night(s, approve=True)
        assert [(run.job, run.error) for run in runs if run.error is not None] == []
        generate(s)
        assert load_missed_days(s, since=s.clock()) >= 0
        check_too_late(s, TODAY, TODAY)
        select_notifications(s.state, s.tcs(), "LDN", {}, TODAY, TODAY, full=True)
        assert explain(s, 1).lines


@pytest.mark.servers
@pytest.mark.parametrize(
    ("table", "privilege", "columns"),
    [
        (t.PersonOwner, Privilege.UPDATE, {"owner"}),
        (t.PersonTrust, Privilege.DELETE, set()),
        (t.PostTrust, Privilege.INSERT, {"trustId"}),
        (t.Shedlock, Privilege.UPDATE, {"lock_until"}),
        (t.PlacementEsrEvent, Privilege.INSERT, {"filename"}),
        (t.PlacementSpecialty, Privilege.SELECT, {"placementSpecialtyType"}),  # only a condition
        (t.PostFunding, Privilege.SELECT, {"endDate"}),
    ],
)
def test_a_privilege_that_tcs_does_not_grant_is_missing(
    mariadb_tcs: World, limited: tuple[Settings, str], table: sa.Table, privilege: Privilege,
    columns: set[str],
) -> None:  # fmt: skip
    settings, user = limited
    s = Services(settings)
    needs = needs_of(s)
    assert columns <= needs[table, privilege]
    grant(mariadb_tcs, needs, user)
    grant(mariadb_tcs, {(table, privilege): frozenset(columns)}, user, verb="REVOKE", to="FROM")
    failed = [f for f in examine(s, {"TCS privileges"}) if f.state != CheckState.OK]
    assert [finding.name for finding in failed] == [f"privileges on {table.name}"]
    assert f"GRANT {privilege} ON {table.name}" in str(failed[0].remedy)
    grant(mariadb_tcs, {(table, privilege): frozenset(columns)}, user)
    assert {finding.state for finding in examine(s, {"TCS privileges"})} == {CheckState.OK}
    s.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("PlacementSpecialty", "placementSpecialtyType"),  # only a condition
        ("CurriculumMembership", "programmeMembershipUuid"),  # a join
        ("PersonTrust", "trustId"),  # written
        ("PostEsrEvent", "positionId"),  # the export
        ("shedlock", "locked_by"),
    ],
)
def test_doctor_and_the_schema_check_miss_the_same_columns(
    embedded_tcs: World, tmp_path: Path, table: str, column: str
) -> None:
    settings = Settings(home=tmp_path, tcs_url=SecretStr(embedded_tcs.url), java_shedlock=True)
    embedded_tcs.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    s = Services(settings)
    problems = schema.check(s.tcs(), needed_columns(s))
    assert [str(problem) for problem in problems] == [f"{table}.{column} is missing"]
    assert [f.message for f in examine(s, {"TCS schema"})] == [f"{table}.{column} is missing"]
    s.close()


@pytest.mark.servers
def test_privileges_that_the_state_database_does_not_grant_are_missing(
    embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    name = f"limited_{make_url(postgresql).database}"
    settings = Settings(
        home=tmp_path, tcs_url=SecretStr(embedded_tcs.url), state_url=SecretStr(postgresql)
    )
    with working(settings) as s:
        assert {f.message for f in examine(s, {"state privileges"})} == {"granted"}
        with s.state.write() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
            connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    admin = Services(settings)
    url = make_url(postgresql).set(username=name, password="x")
    reader = Services(
        settings.model_copy(
            update={"state_url": SecretStr(url.render_as_string(hide_password=False))}
        )
    )

    def run(statement: str) -> None:
        with admin.state.write() as connection:
            connection.exec_driver_sql(statement)

    def found() -> dict[str, list[str]]:
        messages: dict[str, list[str]] = {}
        for finding in examine(reader, {"state privileges"}):
            messages.setdefault(finding.name, []).append(finding.message)
        return messages

    try:
        assert found()["state privileges"] == ["the user lacks CREATE ON SCHEMA public"]
        assert found()["DBOS privileges"] == ["the user lacks USAGE, CREATE ON SCHEMA dbos"]
        run(f"GRANT CREATE ON SCHEMA public TO {name}")
        run(f"GRANT USAGE, CREATE ON SCHEMA dbos TO {name}")
        lacks_writes = "the user lacks INSERT, UPDATE, DELETE ON public.run"
        assert lacks_writes in found()["state privileges"]
        every = "the user lacks SELECT, INSERT, UPDATE, DELETE ON dbos.workflow_status"
        assert every in found()["DBOS privileges"]
        for namespace in ("public", "dbos"):
            run(f"GRANT ALL ON ALL TABLES IN SCHEMA {namespace} TO {name}")
        assert found() == {"state privileges": ["granted"], "DBOS privileges": ["granted"]}
        run("DROP SCHEMA dbos CASCADE")
        (lacking,) = found()["DBOS privileges"]
        assert lacking.startswith("the user lacks CREATE ON DATABASE tis_sync_test")
    finally:
        reader.close()
        run(f"DROP OWNED BY {name}")
        run(f"DROP ROLE {name}")
        admin.close()


def test_drift_is_an_alarm_that_closes_when_the_check_passes(
    settings: Settings,
) -> None:
    clock = Clock()
    with working(settings, clock, scheduler=True) as s:
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts"}
        severities = {alarm.severity for alarm in s.alarms.open_alarms(DRIFT)}
        assert severities == {Severity.FAILURE}
        assert drift(s)["index posts"] == (
            "index posts: the alias does not exist (missing). Run the job: `tis-sync run "
            "PostElasticSearchSyncJob`. See every check: `tis-sync doctor`."
        )
        run_night(s)
        check_drift(schedules, s)
        assert drift(s) == {}


def test_the_alarm_of_a_check_with_several_findings_names_them_all(
    settings: Settings, embedded_tcs: World
) -> None:
    embedded_tcs.execute("ALTER TABLE PersonTrust RENAME COLUMN trustId TO other")
    embedded_tcs.execute("ALTER TABLE PostEsrEvent RENAME COLUMN positionId TO other")
    with working(settings) as s:
        texts = set()
        for _ in range(2):
            check_drift(schedules, s)
            texts.add(drift(s)["TCS schema"])
    (text,) = texts
    assert "PersonTrust.trustId is missing" in text
    assert "; PostEsrEvent.positionId is missing" in text
    assert text.count("tis-sync schema check") == 1


def test_an_index_that_a_run_is_about_to_build_is_not_drift(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        night = request_night(
            s, trigger=Trigger.MANUAL, requested_by="test", options=RunOptions()
        )  # a worker has requested it, and was killed before anything was queued
        check_drift(schedules, s)
        assert drift(s) == {}
        (persons,) = [f for f in examine(s, {"search"}) if f.name == "index persons"]
        assert persons.state == CheckState.NOT_CHECKED
        assert night.id[:8] in persons.message
        s.history.end(night.id, RunState.FAILED, s.clock(), "x")
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts"}
        job = job_named("PersonElasticSearchSyncJob")
        run = request_run(s, job, trigger=Trigger.MANUAL, requested_by="test", options=RunOptions())
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts"}  # neither resolved nor opened
        s.history.end(run.id, RunState.FAILED, s.clock(), "x")


def test_a_dry_run_does_not_hide_that_an_index_is_missing(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        job = job_named("PersonElasticSearchSyncJob")
        options = RunOptions(dry_run=True)
        request_run(s, job, trigger=Trigger.MANUAL, requested_by="test", options=options)
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts"}


def test_alarms_stay_open_while_their_check_cannot_run(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts"}
        absent = Settings(home=settings.home, search_url="elasticsearch+http://127.0.0.1:9")
        s._search = OnFirstUse(lambda: connect_search(absent))
        check_drift(schedules, s)
        assert set(drift(s)) == {"index persons", "index posts", "search"}


def test_a_misspelt_notification_channel_fails_and_is_never_printed(
    settings: Settings, program: Program
) -> None:
    with channel_server() as channel, working(settings) as s:
        s.settings.notification_urls.extend(["hunter2", channel.url, "slak://hunter2/x"])
        found = {f.name: f for f in examine(s, {"notifications"})}
        assert {name: f.state for name, f in found.items()} == {
            "notification channel 1": CheckState.DRIFTED,
            "notification channel 2 (json)": CheckState.OK,
            "notification channel 3 (slak)": CheckState.DRIFTED,
        }
        channel.mood = Mood.REFUSE
        s.alarms.open(JOB_FAILED, "a job", "It failed.", s.clock(), impact="people wait")
        s.deliver()
        (refused,) = [f for f in examine(s, {"notifications"}) if f.name.endswith("(json)")]
        assert refused.state == CheckState.DRIFTED
        assert refused.message.startswith("has not accepted 1 notifications, the oldest of 2026-")
    ended = program("doctor", notification_urls="hunter2")
    assert ended.code == 1
    assert "notification channel 1" in ended.out
    assert "hunter2" not in ended.out + ended.err


def test_the_doctor_is_not_content_while_an_alarm_is_open(settings: Settings) -> None:
    with working(settings, scheduler=True) as s:
        run_night(s)
        generate(s)
        for number in range(5):
            s.alarms.open(JOB_FAILED, f"job {number}", "It failed.", s.clock(), impact="x")
        assert set(failed_checks(s)) == {"alarms"}
        message = failed_checks(s)["alarms"].message
        assert message == "5 open: job 0: failed; job 1: failed; job 2: failed; 2 more"


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
    assert {f["name"] for f in findings if f["state"] not in {"ok", "not checked"}} == {
        "schedules", "setting TIS_SYNC_CLOCK_OFFSET_SECONDS",
    }  # fmt: skip
    assert "2 failed, 1 not checked." in result.out
