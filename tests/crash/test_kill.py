"""A night that is killed at any point (SIGKILL) and restarted ends like an undisturbed night.

The number of random moments is `TIS_SYNC_TEST_KILLS` (default 6).
"""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.crash.program import tis_sync
from tests.running import working
from tis_sync.db.database import connect
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_index import PERSONS
from tis_sync.jobs.post_index import POSTS
from tis_sync.runs.run import RunState
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

KILLS = int(os.environ.get("TIS_SYNC_TEST_KILLS", "6"))
PEOPLE = 400
NIGHT_SECONDS = 12.0  # roughly, from the start of the process to the end of the night


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a synthetic TCS, before the first night."""
    home = tmp_path_factory.mktemp("fresh")
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(engine, demo.Size(PEOPLE), TODAY, legacy_tables)
    engine.close()
    return home


@pytest.fixture(scope="module")
def undisturbed(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of an undisturbed night."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(fresh, home)
    assert tis_sync(home, "night").returncode == 0
    return everything(home)


def everything(home: Path) -> dict[str, Any]:
    """All derived rows, columns and documents, without surrogate keys."""
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    found: dict[str, Any] = {}
    with engine.read() as connection:
        for table, columns in (
            (t.PersonOwner, ("id", "owner", "rule")),
            (t.PersonTrust, ("personId", "trustId")),
            (t.PostTrust, ("postId", "trustId")),
            (t.Person, ("id", "status")),
            (t.Post, ("id", "fundingStatus")),
        ):
            statement = sa.select(*(table.c[c] for c in columns)).order_by(*columns)
            found[table.name] = [tuple(row) for row in connection.execute(statement)]
    engine.close()
    search = EmbeddedEngine(home / "search")
    for spec in (PERSONS, POSTS):
        found[spec.alias] = search.query(spec, Query(limit=1000)).documents
    return found


def check_whole(home: Path, undisturbed: dict[str, Any]) -> None:
    """Check that all is as in the undisturbed home: nothing duplicated, left over or running."""
    found = everything(home)
    for name, right in undisturbed.items():
        assert found[name] == right, name
    folders = [path.name for path in (home / "search").iterdir() if path.is_dir()]
    for alias in ("persons", "posts"):
        assert len([name for name in folders if name.startswith(alias)]) <= 2, folders
    with working(Settings(home=home)) as services:
        assert services.history.all_active() == []
        jobs = [run.job for run in services.history.recent(500, states=[RunState.SUCCEEDED])]
        assert len(set(jobs)) == len(JOBS) + 1


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("request:before", 10),
        ("request:after", 10),
        ("begin:after", 10),
        ("phase:after", 24),
        ("plan:after", 7),
        ("insert:after", 5),
        ("apply:before", 7),
        ("apply:after", 7),
        ("fill:after", 2),
        ("write:before", 2),
        ("write:after", 2),
        ("publish:before", 2),
        ("publish:after", 2),
        ("end:before", 10),
        ("end:after", 10),
        ("notify-end:after", 9),
    ],
)
def test_a_night_killed_at_each_step_of_each_job_ends_like_an_undisturbed_one(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path, point: str, calls: int
) -> None:
    """Kill the first process at its first such call, the next at its second, and so on."""
    home = tmp_path / "home"
    shutil.copytree(fresh, home)
    died = 0
    for number in range(1, calls + 1):
        ended = tis_sync(home, "night", kill=(point, 1 + number % 3))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        died += 1
    assert died >= 1
    ended = tis_sync(home, "night")
    assert ended.returncode == 0, ended.stderr
    check_whole(home, undisturbed)


def test_a_night_killed_at_random_moments_ends_like_an_undisturbed_one(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    random_source = random.Random(7)
    home = tmp_path / "home"
    died = 0
    for number in range(KILLS):
        if number % 5 == 0:  # several kills in a row, then a fresh start
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(fresh, home)
        moment = random_source.uniform(0.3, NIGHT_SECONDS)
        ended = tis_sync(home, "night", kill=(f"time:{moment:.2f}", 0))
        assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr
        died += ended.returncode != 0
        if number % 5 == 4 or number == KILLS - 1:
            assert tis_sync(home, "night").returncode == 0
            check_whole(home, undisturbed)
    print(f"killed {died} of {KILLS} times")
    assert died >= KILLS // 3
