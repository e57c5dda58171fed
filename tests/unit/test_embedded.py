"""The embedded engine recognises a full disk by Tantivy's real errors."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.documents import SPEC, build, people
from tis_sync.errors import SchemaError
from tis_sync.search.embedded import EmbeddedEngine
from tis_sync.search.model import Query

ROOT = Path(__file__).parent.parent.parent
WRITE = """
import resource, shutil, sys
from collections import namedtuple
from pathlib import Path

from tests.servers.documents import FORM, SPEC, people
from tis_sync.search.documents import encode
from tis_sync.search.embedded import EmbeddedEngine

folder, largest_file, free = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
Usage = namedtuple("Usage", "total used free")
shutil.disk_usage = lambda _: Usage(0, 0, free)
engine = EmbeddedEngine(folder)
engine.check()
index = engine.begin(SPEC, "one")
resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, -1))
try:
    engine.write(index, [encode(people(5000), FORM)])
except Exception as error:
    print(type(error).__name__, error, error.__cause__)
"""


def write_with_limit(folder: Path, largest_file: int, free: int) -> str:
    """Write documents while no file may become larger; return the type and texts of the error."""
    return subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), str(largest_file), str(free)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout


def test_an_index_whose_folder_was_deleted_counts_as_missing_and_is_built_again(
    tmp_path: Path,
) -> None:
    engine = EmbeddedEngine(tmp_path / "search")
    engine.check()
    index = build(engine, people(3), "one")
    assert engine.position([index]) == {index: []}
    shutil.rmtree(tmp_path / "search" / index)
    assert engine.live(SPEC) is None
    with pytest.raises(SchemaError, match="There is no index persons yet"):
        engine.query(SPEC, Query(""))
    build(engine, people(3), "two")
    assert engine.query(SPEC, Query("")).total == 3


# The thread that meets the limit first decides whether the error contains its cause.
@pytest.mark.parametrize("largest_file", [1_000, 500_000])
def test_a_writer_that_fails_on_a_full_disk_is_reported_as_a_full_disk(
    tmp_path: Path, largest_file: int
) -> None:
    failure = write_with_limit(tmp_path / "search", largest_file, free=0)
    assert failure.startswith("StorageFullError"), failure
    assert "File too large" in failure or "writer was killed" in failure


@pytest.mark.parametrize("largest_file", [1_000, 500_000])
def test_a_writer_that_fails_without_a_cause_while_there_is_space_is_not_a_full_disk(
    tmp_path: Path, largest_file: int
) -> None:
    failure = write_with_limit(tmp_path / "search", largest_file, free=10**12)
    has_cause = "File too large" in failure
    assert failure.startswith("StorageFullError" if has_cause else "ValueError"), failure
    assert has_cause or "writer was killed" in failure
