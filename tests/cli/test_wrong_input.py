"""Wrong input gets one clear line and the right exit code, never a traceback."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.conftest import Program, Result
from tests.conftest import TODAY, absent
from tests.world import World
from tis_sync.tcs import tables as t
from tis_sync.workers.home import home_lock

USAGE, FAILED = 2, 1


def expect_one_line(result: Result, code: int, *parts: str) -> None:
    """Assert that the program ended with this code and one line that contains these parts."""
    assert result.code == code, result.err
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err + result.out
    for part in parts:
        assert part in lines[0]


def test_an_unknown_job_gets_the_nearest_names(program: Program) -> None:
    expect_one_line(
        program("run", "personOwnerRebuild"), USAGE, "no job", "did you mean PersonOwnerRebuildJob"
    )
    expect_one_line(program("run", "zzz"), USAGE, "no job 'zzz'", "tis-sync jobs")
    expect_one_line(program("history", "--job", "postTrust"), USAGE, "PostTrainingBodyTrustJob")


@pytest.mark.parametrize(
    ("job", "date", "parts"),
    [
        ("PersonRecordStatusJob", "01/02/2026", ("'01/02/2026'", "YYYY-MM-DD, ANY, NONE")),
        ("PersonRecordStatusJob", "2026-02-30", ("'2026-02-30'", "YYYY-MM-DD, ANY, NONE")),
        ("PersonRecordStatusJob", "20260201", ("YYYY-MM-DD, ANY, NONE",)),
        ("PersonRecordStatusJob", "2999-01-01", ("is in the future",)),
        ("PostFundingStatusSyncJob", "any", ("YYYY-MM-DD",)),
        ("PersonOwnerRebuildJob", "2026-01-01", ("takes no --date", "PersonRecordStatusJob")),
    ],
)
def test_a_malformed_date_gets_one_line(
    program: Program, job: str, date: str, parts: tuple[str, ...]
) -> None:
    expect_one_line(program("run", job, "--date", date), USAGE, *parts)


def test_an_unreachable_tcs_gets_one_line(program: Program) -> None:
    url = "mysql+pymysql://root:secret@127.0.0.1:9/tcs"
    result = program("run", "PersonOwnerRebuildJob", tcs_url=url)
    assert "secret" not in result.err + result.out
    assert result.code == FAILED
    (line,) = result.err.strip().splitlines()
    assert "TCS at mysql+pymysql://root:***@127.0.0.1:9/tcs" in line
    assert "does not answer" in line


def test_an_unreachable_state_database_gets_one_line(program: Program) -> None:
    expect_one_line(
        program("history", state_url="postgresql+psycopg://x:secret@127.0.0.1:9/s"),
        FAILED,
        "The state database at postgresql+psycopg://x:***@",
        "does not answer",
        "TIS_SYNC_STATE_URL",
    )


def test_an_unreachable_search_server_gets_one_line(program: Program) -> None:
    url = "elasticsearch+http://127.0.0.1:9"
    expect_one_line(
        program("search", "persons", "x", search_url=url), FAILED,
        "Elasticsearch at http://127.0.0.1:9 does not answer", "TIS_SYNC_SEARCH_URL",
    )  # fmt: skip
    assert program("demo", "--people", "20", "--data-only").code == 0
    result = program("run", "PostElasticSearchSyncJob", search_url=url)
    expect_one_line(result, FAILED, "does not answer", "stays as it is")


@pytest.mark.servers
def test_a_wrong_password_gets_one_line(program: Program, mariadb: str, postgresql: str) -> None:
    wrong = mariadb.replace("root@", "nobody:secret@")
    expect_one_line(
        program("run", "PersonOwnerRebuildJob", tcs_url=wrong), FAILED,
        "refuses the user or password", "TIS_SYNC_TCS_URL", "***",
    )  # fmt: skip
    missing = mariadb.rsplit("/", 1)[0] + "/no_such_database"
    expect_one_line(program("schema", "check", tcs_url=missing), FAILED, "no such database")
    missing_state = postgresql.rsplit("/", 1)[0] + "/no_such_database"
    expect_one_line(
        program("history", state_url=missing_state),
        FAILED,
        "no such database",
        "TIS_SYNC_STATE_URL",
    )


def test_unsupported_urls_get_one_line(program: Program, tmp_path: Path) -> None:
    expect_one_line(program("schema", "check", tcs_url="not a url"), USAGE, "TIS_SYNC_TCS_URL")
    expect_one_line(program("history", state_url="oracle://x/y"), USAGE, "TIS_SYNC_STATE_URL")
    expect_one_line(
        program("search", "posts", search_url="solr+http://x"), USAGE, "TIS_SYNC_SEARCH_URL"
    )
    no_database = tmp_path / "notes.txt"
    no_database.write_text("this is not a database, but it is long enough to look like one" * 20)
    result = program("schema", "check", tcs_url=f"sqlite:///{no_database}")
    expect_one_line(result, FAILED, "is not an SQLite database file")


@pytest.mark.servers
def test_an_unsuitable_database_for_tcs_or_the_state_gets_one_line(
    program: Program, mariadb: str, postgresql: str
) -> None:
    result = program("schema", "check", tcs_url=postgresql)
    expect_one_line(result, USAGE, "TCS must be MySQL, MariaDB or SQLite")
    expect_one_line(
        program("history", state_url=mariadb), USAGE, "state database must be SQLite or PostgreSQL"
    )


def test_a_tcs_that_lacks_a_table_or_column_gets_one_line(
    program: Program, embedded_tcs: World
) -> None:
    embedded_tcs.execute("ALTER TABLE Post RENAME COLUMN owner TO boss")
    embedded_tcs.execute("DROP TABLE Programme")
    result = program("run", "PersonOwnerRebuildJob", tcs_url=embedded_tcs.url)
    expect_one_line(result, FAILED, "Post.owner is missing", "Programme is missing", "schema check")


def test_text_in_a_number_column_sets_the_record_aside(
    program: Program, embedded_tcs: World
) -> None:
    embedded_tcs.fill(
        {
            "Person": [{"id": 1}, {"id": 2}],
            "Post": [{"id": 5, "owner": "North", "fundingStatus": "CURRENT"}],
            "Placement": [{"id": 7, "traineeId": 1, "postId": 5}],
        }
    )
    embedded_tcs.execute("UPDATE Placement SET postId = 'F2' WHERE id = 7")
    result = program("run", "PersonOwnerRebuildJob", "--no-follow-ups", tcs_url=embedded_tcs.url)
    expect_one_line(result, 0, "set aside: Placement 7: postId 'F2' is not a number")


@pytest.mark.servers
def test_a_value_that_is_too_long_sets_the_record_aside(program: Program, tcs: World) -> None:
    tcs.fill(
        {
            "Person": [{"id": 1}, {"id": 2}],
            "Programme": [{"id": 3, "owner": "x" * 60}, {"id": 4, "owner": "North"}],
            "ProgrammeMembership": [
                {"uuid": "a", "personId": 1, "programmeId": 3, **_now()},
                {"uuid": "b", "personId": 2, "programmeId": 4, **_now()},
            ],
        }
    )
    if tcs.database.dialect == "sqlite":
        tcs.execute("DROP TABLE PersonOwner")
        tcs.execute(
            "CREATE TABLE PersonOwner (id INTEGER PRIMARY KEY, owner VARCHAR(50), rule TEXT)"
        )
    else:
        tcs.execute("ALTER TABLE PersonOwner MODIFY owner VARCHAR(50)")
    result = program("run", "PersonOwnerRebuildJob", "--no-follow-ups", tcs_url=tcs.url)
    expect_one_line(result, 0, "set aside: PersonOwner 1: owner", "is longer than 50")
    assert tcs.rows(t.PersonOwner, "id", "owner") == [(2, "North")]


def _now() -> dict[str, object]:
    return {
        "programmeStartDate": TODAY - timedelta(days=5),
        "programmeEndDate": TODAY + timedelta(days=500),
    }


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "configured"), [("elasticsearch", "opensearch"), ("opensearch", "elasticsearch")]
)
def test_a_search_cluster_of_another_product_or_version_gets_one_line(
    program: Program, request: pytest.FixtureRequest, kind: str, configured: str
) -> None:
    address = request.getfixturevalue(kind)
    result = program("search", "persons", "x", search_url=f"{configured}+{address}")
    expect_one_line(result, FAILED, address, "TIS_SYNC_SEARCH_URL")


@pytest.mark.parametrize("number", ["7.17.9", "9.1.0"])
def test_a_search_cluster_of_an_unsupported_version_is_refused(number: str) -> None:
    # No such server is available to the tests, but its answer is documented.
    from tis_sync.search import elastic, opensearch

    assert elastic.unsupported({"version": {"number": number}}) == (
        f"version {number} is not supported; use Elasticsearch 8"
    )
    answer = {"version": {"number": "1.3.0", "distribution": "opensearch"}}
    assert opensearch.unsupported(answer) == "version 1.3.0 is not supported; use OpenSearch 2"


def test_a_full_disk_under_the_embedded_files_gets_one_line(
    program: Program, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        absent("a small disk cannot be mounted here")
    try:
        result = program("demo", "--people", "20000", home=small / "home")
        expect_one_line(result, FAILED, "the disk is full")
        filler = small / "filler"
        (small / "home2").mkdir()
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 8_000_000)
        expect_one_line(program("night", home=small / "home2"), FAILED, "full")
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.servers
def test_a_full_disk_during_a_build_keeps_the_old_index(program: Program, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        absent("a small disk cannot be mounted here")
    try:
        url = f"embedded:{small / 'search'}"
        assert program("demo", "--people", "60", "--data-only").code == 0
        assert program("night", search_url=url).code == 0
        before = program("search", "persons", "--json", search_url=url).json["total"]
        from tis_sync.db.database import connect

        engine = connect(f"sqlite:///{tmp_path / 'home' / 'tcs.sqlite'}", name="TCS", setting="-")
        with engine.write() as connection:
            connection.execute(sa.update(t.Person).values(role=sa.text("hex(randomblob(15000))")))
        engine.close()
        result = program("run", "PersonElasticSearchSyncJob", "--rebuild", search_url=url)
        expect_one_line(result, FAILED, "The disk under", "is full", "still serves")
        assert program("search", "persons", "--json", search_url=url).json["total"] == before
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_second_embedded_worker_gets_one_line(program: Program, tmp_path: Path) -> None:
    with home_lock(tmp_path / "home"):
        result = program("work")
    expect_one_line(
        result, USAGE, "in use by another tis-sync process", str(os.getpid()), "PostgreSQL"
    )


def test_a_home_that_cannot_be_created_gets_one_line(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = program("night", home=tmp_path / "file" / "home")
    assert result.code == FAILED
    assert "cannot be used" in result.err


def test_invalid_settings_get_one_line(program: Program) -> None:
    expect_one_line(program("jobs", guard_share="lots"), USAGE, "TIS_SYNC_GUARD_SHARE='lots'")
    expect_one_line(program("jobs", night_times='{"nojob": "01:00"}'), USAGE, "no job 'nojob'")
    expect_one_line(
        program("jobs", night_times='{"PersonOwnerRebuildJob": "1am"}'), USAGE, "'1am'", "HH:MM"
    )


def test_meaningless_searches_get_one_line(program: Program) -> None:
    expect_one_line(
        program("search", "people", "x"), USAGE, "no index 'people'", "persons and posts"
    )
    expect_one_line(program("search", "posts", "--where", "grade"), USAGE, "FIELD=VALUE")
    expect_one_line(
        program("search", "posts", "--where", "rank=1"), USAGE, "'rank'", "owner, status"
    )
    expect_one_line(
        program("search", "persons", "--where", "trust=abc"), USAGE, "trust is a number"
    )


def test_unknown_runs_and_jobs_get_one_line(program: Program) -> None:
    expect_one_line(program("show", "abcdef"), USAGE, "no run 'abcdef'")
    expect_one_line(program("cancel", "abcdef"), USAGE, "no run 'abcdef'")
    expect_one_line(program("resume", "abcdef"), USAGE, "no run 'abcdef'")
    expect_one_line(program("unpause", "nojob"), USAGE, "no job 'nojob'")


@pytest.mark.servers
def test_the_demo_never_writes_into_a_database_with_people(program: Program, tcs: World) -> None:
    tcs.fill({"Person": [{"id": 1}]})
    expect_one_line(
        program("demo", tcs_url=tcs.url), USAGE, "already contains 1 people", "tis-sync night"
    )
    assert tcs.rows(t.Person, "id") == [(1,)]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "TIS_SYNC_TCS_URL": "nonsense"}
    command = [sys.executable, "-m", "tis_sync", "--debug", "schema", "check"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == USAGE
    assert "Traceback" in result.stderr


def test_a_missing_database_gets_one_line(program: Program, postgresql: str) -> None:
    expect_one_line(
        program("history", state_url=f"{postgresql}_not"),
        FAILED,
        "no such database; create it",
        "TIS_SYNC_STATE_URL",
    )


def test_a_misspelt_setting_is_reported_by_every_command_and_by_doctor(program: Program) -> None:
    result = program("jobs", nihgt_times="{}")
    expect_one_line(result, 0, "TIS_SYNC_NIHGT_TIMES is not a setting", "TIS_SYNC_NIGHT_TIMES?")
    findings = program("doctor", "--json", nihgt_times="{}").json
    (found,) = [f for f in findings if f["name"] == "setting TIS_SYNC_NIHGT_TIMES"]
    assert found["state"] == "drifted"
    assert "TIS_SYNC_NIGHT_TIMES" in found["remedy"]


def test_malformed_json_in_a_setting_gets_one_line(program: Program) -> None:
    expect_one_line(
        program("jobs", night_times="{oops}"), USAGE, "TIS_SYNC_NIGHT_TIMES='{oops}'", "not JSON"
    )


def test_another_number_of_people_is_refused_if_there_are_some(program: Program) -> None:
    assert program("demo", "--people", "40", "--data-only").code == 0
    refused = program("demo", "--people", "100", "--data-only")
    expect_one_line(refused, USAGE, "already contains 40 people, not 100", "TIS_SYNC_HOME")
    assert program("demo", "--data-only").code == 0
    assert program("demo", "--people", "40", "--data-only").code == 0
