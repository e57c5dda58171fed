"""E3, 2020-06-22: after a restart in the middle of the run, one of thirteen files was missing."""

import signal
from pathlib import Path

from tests.conftest import TODAY
from tests.crash.program import tis_sync
from tis_sync.db.database import connect
from tis_sync.demo import generate as demo
from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.files.store import find_files
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings


def test_after_a_restart_in_the_middle_the_export_is_resumed_and_all_thirteen_files_exist(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(engine, demo.Size(300), TODAY)
    engine.close()
    process = tis_sync(home, "esr", "export", "--all", kill=("rename:after", 7))
    assert process.returncode == -signal.SIGKILL
    services = Services(Settings(home=home))
    before = {file.name for file in find_files(services.state)}
    services.close()
    assert 7 <= len(before) < len(DEANERIES)
    process = tis_sync(home, "esr", "files")  # a process that only reads changes nothing
    assert process.returncode == 0
    process = tis_sync(home, "esr", "dead", "retry", "--all")  # any process that works resumes
    assert process.returncode == 0, process.stderr
    process = tis_sync(home, "esr", "export", "--all")
    assert process.returncode == 0, process.stderr
    services = Services(Settings(home=home))
    files = find_files(services.state)
    assert sorted(file.deanery for file in files) == sorted(DEANERIES)
    assert before <= {file.name for file in files}
    assert {path.name for path in (home / "esr").glob("*.DAT")} == {file.name for file in files}
    services.close()
