"""A night with nothing to do writes nothing, according to the counters of the servers."""

import json
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import TODAY, SearchUrl
from tests.running import run_night, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.catalogue import JOBS
from tis_sync.settings.model import Settings

pytestmark = pytest.mark.servers


def rows_written(world: World) -> int:
    """Rows that MariaDB's storage engine has written since it started, in this test's tables."""
    with world.database.read() as connection:
        counted = connection.exec_driver_sql(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN "
            "('HANDLER_WRITE', 'HANDLER_UPDATE', 'HANDLER_DELETE') ORDER BY 1"
        ).fetchall()
    return sum(int(row[0]) for row in counted)


def table_times(world: World) -> list[object]:
    with world.database.read() as connection:
        return [
            tuple(row)
            for row in connection.exec_driver_sql(
                "CHECKSUM TABLE PersonOwner, PersonTrust, PostTrust, Person, Post"
            )
        ]


def documents_written(address: str) -> int:
    with urlopen(f"{address}/persons,posts/_stats/indexing") as reply:
        total = json.load(reply)["_all"]["primaries"]["indexing"]
    return int(total["index_total"]) + int(total["delete_total"])


@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_the_second_night_writes_no_row_and_no_document(
    mariadb_tcs: World,
    search_url: SearchUrl,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    address = str(request.getfixturevalue(kind))
    demo.generate(mariadb_tcs.database, demo.Size(800), TODAY, legacy_tables)
    settings = Settings(home=tmp_path, tcs_url=mariadb_tcs.url, search_url=search_url(kind))
    with working(settings) as services:
        night, *runs = run_night(services)
        assert night.state == "succeeded"
        assert sum(run.written for run in runs) > 1000
        before = documents_written(address), table_times(mariadb_tcs)
        binary_log = rows_written(mariadb_tcs)
        night, *runs = run_night(services)
        assert night.state == "succeeded"
        assert [run.written for run in runs] == [0] * len(JOBS)
        assert (documents_written(address), table_times(mariadb_tcs)) == before
        # Reading writes no row either, but for the few of MariaDB's own status tables.
        assert rows_written(mariadb_tcs) - binary_log < 200
