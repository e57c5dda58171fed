"""An exporter that is killed at any point (SIGKILL) and restarted gives the same result.

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
from tis_sync.db.database import connect
from tis_sync.demo import generate as demo
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import parse
from tis_sync.esr.files.store import find_files
from tis_sync.esr.records import RecordState, find_records
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs

KILLS = int(os.environ.get("TIS_SYNC_TEST_ESR_KILLS", "3"))
PEOPLE = int(os.environ.get("TIS_SYNC_TEST_ESR_PEOPLE", "1500"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a synthetic TCS from which nothing has been exported yet."""
    home = tmp_path_factory.mktemp("fresh")
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(engine, demo.Size(PEOPLE), TODAY)
    engine.close()
    return home


@pytest.fixture(scope="module")
def undisturbed(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of an undisturbed export."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(fresh, home)
    started = time.monotonic()
    process = tis_sync(home, "esr", "export", "--all")
    seconds = time.monotonic() - started
    assert process.returncode == 0, process.stderr
    return result(home) | {"seconds": seconds}


def result(home: Path) -> dict[str, Any]:
    """The lines of each deanery's file, and the events of TCS; checked for consistency."""
    settings = Settings(home=home)
    services = Services(settings)
    files = find_files(services.state, limit=1000)
    assert sorted(file.number for file in files) == list(range(1, len(files) + 1))
    assert Counter(file.deanery for file in files) == Counter(DEANERIES)
    folder = Path(settings.export().removeprefix("file://"))
    assert {p.name for p in folder.iterdir() if p.suffix == ".DAT"} == {f.name for f in files}
    layout = layout_of(FileType.APP, settings)
    parsed = {file.deanery: parse(layout, (folder / file.name).read_bytes()) for file in files}
    assert all(contents.bad == [] for contents in parsed.values())
    with services.state.read() as connection:
        subjects = list(connection.scalars(sa.select(t.line.c.subject)))
    assert len(subjects) == len(set(subjects)) == sum(file.records for file in files)
    event = tcs.PlacementEsrEvent
    columns = (event.c.placementId, event.c.positionId, event.c.positionNumber, event.c.status)
    with services.tcs().read() as connection:
        events = [tuple(row) for row in connection.execute(sa.select(*columns))]
    assert len(events) == len(set(events))
    records = find_records(services.state, limit=None)
    assert {r.id for r in records if r.state == RecordState.EXPORTED} == set(subjects)
    services.close()
    return {
        "lines": {d: sorted(p.records.drop("line").rows(), key=repr) for d, p in parsed.items()},
        "events": sorted(events),
        "states": Counter(record.state for record in records),
    }


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("request-export:after", 13),
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
        ("report:before", 13),
        ("report:after", 13),
        ("reported:before", 13),
        ("reported:after", 13),
        ("end-export:before", 13),
        ("end-export:after", 13),
    ],
)
def test_an_export_killed_at_any_step_ends_like_an_undisturbed_one(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path, point: str, calls: int
) -> None:
    home = tmp_path / "home"
    shutil.copytree(fresh, home)
    number = min(calls, 1 + len(point) % 6)
    process = tis_sync(home, "esr", "export", "--all", kill=(point, number))
    assert process.returncode == -signal.SIGKILL, process.stderr
    process = tis_sync(home, "esr", "export", "--all")
    assert process.returncode == 0, process.stderr
    assert result(home).items() <= undisturbed.items()


def test_an_export_killed_at_a_random_moment_ends_like_an_undisturbed_one(
    fresh: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    generator = random.Random(13)
    killed = 0
    for number in range(KILLS):
        home = tmp_path / f"home{number}"
        shutil.copytree(fresh, home)
        moment = generator.uniform(1.5, undisturbed["seconds"])
        process = tis_sync(home, "esr", "export", "--all", kill=(f"time:{moment}", 1))
        killed += process.returncode == -signal.SIGKILL
        process = tis_sync(home, "esr", "export", "--all")
        assert process.returncode == 0, (moment, process.stderr)
        assert result(home).items() <= undisturbed.items(), moment
        shutil.rmtree(home)
    print(f"{killed} of {KILLS} killed; {sum(undisturbed['states'].values())} records")
    assert killed > 0
