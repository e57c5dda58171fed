"""E3, 2020-06-22: a restart in the middle of the run; one file of thirteen was missing."""

import signal
from pathlib import Path

from tests.conftest import TODAY
from tests.crash.program import tis_sync
from tis_sync.esr.deaneries import DEANERIES
from tis_sync.esr.files import files
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.tcs import demo
from tis_sync.tcs.connect import connect


def test_a_restart_in_the_middle_resumes_where_it_stopped_and_thirteen_files_lie_there(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    engine = connect(f"sqlite:///{home / 'tcs.sqlite'}", name="TCS", setting="-")
    demo.generate(engine, demo.Size(300), TODAY)
    engine.dispose()
    ended = tis_sync(home, "esr", "export", "--all", kill=("rename:after", 7))
    assert ended.returncode == -signal.SIGKILL
    services = Services(Settings(home=home))
    before = {file.name for file in files(services.state)}
    services.close()
    assert 7 <= len(before) < len(DEANERIES)
    ended = tis_sync(home, "esr", "files")  # any process that only looks changes nothing
    assert ended.returncode == 0
    ended = tis_sync(home, "esr", "dead", "retry", "--all")  # any process that works resumes
    assert ended.returncode == 0, ended.stderr
    ended = tis_sync(home, "esr", "export", "--all")
    assert ended.returncode == 0, ended.stderr
    services = Services(Settings(home=home))
    made = files(services.state)
    assert sorted(file.deanery for file in made) == sorted(DEANERIES)
    assert before <= {file.name for file in made}
    assert {path.name for path in (home / "esr").glob("*.DAT")} == {file.name for file in made}
    services.close()
