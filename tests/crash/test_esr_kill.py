"""The exporter killed at any moment (SIGKILL), then started again: the books are right.

The number of random moments is `TIS_SYNC_TEST_ESR_KILLS` (default 3; the issue asks for 100), the
size of TCS `TIS_SYNC_TEST_ESR_PEOPLE` (default 1,500, some 500 records; 15,000 for some 5,000).
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY
from tests.crash.program import tis_sync
from tis_sync.esr.deaneries import APP, DEANERIES
from tis_sync.esr.files import files
from tis_sync.esr.lines import parse
from tis_sync.esr.plan import EXPORTED
from tis_sync.esr.records import records
from tis_sync.esr.sources import layout_of
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.state import esr as t
from tis_sync.tcs import demo
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import connect

KILLS = int(os.environ.get("TIS_SYNC_TEST_ESR_KILLS", "3"))
PEOPLE = int(os.environ.get("TIS_SYNC_TEST_ESR_PEOPLE", "1500"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a synthetic TCS, nothing exported yet."""
    home = tmp_path_factory.mktemp("fresh")
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(engine, demo.Size(PEOPLE), TODAY)
    engine.dispose()
    return home


@pytest.fixture(scope="module")
def undisturbed(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed export makes of it."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(fresh, home)
    started = time.monotonic()
    ended = tis_sync(home, "esr", "export", "--all")
    seconds = time.monotonic() - started
    assert ended.returncode == 0, ended.stderr
    return books(home) | {"seconds": seconds}


def books(home: Path) -> dict[str, Any]:
    """Who stands in which deanery's file, and what TCS was told; checked on the way."""
    settings = Settings(home=home)
    services = Services(settings)
    made = files(services.state, limit=1000)
    assert sorted(file.number for file in made) == list(range(1, len(made) + 1))
    assert Counter(file.deanery for file in made) == Counter(DEANERIES)
    folder = Path(settings.export().removeprefix("file://"))
    assert {p.name for p in folder.iterdir() if p.suffix == ".DAT"} == {f.name for f in made}
    said = {
        file.deanery: parse(layout_of(APP, settings), (folder / file.name).read_bytes())
        for file in made
    }
    assert all(parsed.bad == [] for parsed in said.values())
    with services.state.connect() as connection:
        lines = list(connection.scalars(sa.select(t.line.c.source)))
    assert len(lines) == len(set(lines)) == sum(file.records for file in made)
    columns = ("placementId", "positionId", "positionNumber", "status")
    event = tcs.PlacementEsrEvent
    with services.tcs().connect() as connection:
        told = [tuple(row) for row in connection.execute(sa.select(*(event.c[c] for c in columns)))]
    assert len(told) == len(set(told))
    found = records(services.state, limit=None)
    exported = {r.id for r in found if r.state == EXPORTED}
    assert exported == set(lines)
    services.close()
    return {
        "lines": {d: sorted(p.body.drop("line").rows(), key=repr) for d, p in said.items()},
        "told": sorted(told),
        "states": Counter(record.state for record in found),
    }


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("ask-export:after", 13),
        ("generate:before", 1),
        ("generate:after", 1),
        ("claim:before", 13),
        ("claim:after", 13),
        ("render:after", 13),
        ("part:before", 13),
        ("part:after", 13),
        ("rename:after", 13),
        ("put:after", 13),
        ("written:after", 13),
        ("tell:before", 13),
        ("tell:after", 13),
        ("settle:before", 13),
        ("settle:after", 13),
        ("end-export:before", 13),
        ("end-export:after", 13),
    ],
)
def test_killed_at_each_step_the_export_ends_as_if_undisturbed(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path, point: str, calls: int
) -> None:
    home = tmp_path / "home"
    shutil.copytree(fresh, home)
    number = min(calls, 1 + len(point) % 6)
    ended = tis_sync(home, "esr", "export", "--all", kill=(point, number))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    ended = tis_sync(home, "esr", "export", "--all")
    assert ended.returncode == 0, ended.stderr
    assert books(home).items() <= undisturbed.items()


def test_killed_at_random_moments_the_export_ends_as_if_undisturbed(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    chance = random.Random(13)
    died = 0
    for number in range(KILLS):
        home = tmp_path / f"home{number}"
        shutil.copytree(fresh, home)
        moment = chance.uniform(1.5, undisturbed["seconds"])
        ended = tis_sync(home, "esr", "export", "--all", kill=(f"time:{moment}", 1))
        died += ended.returncode == -signal.SIGKILL
        ended = tis_sync(home, "esr", "export", "--all")
        assert ended.returncode == 0, (moment, ended.stderr)
        assert books(home).items() <= undisturbed.items(), moment
        shutil.rmtree(home)
    print(f"{died} of {KILLS} killed; {sum(undisturbed['states'].values())} records")
    assert died > 0
