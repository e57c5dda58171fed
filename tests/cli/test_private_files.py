"""Only our own user can read what the program makes: it contains personal data."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ON_THE_DAY
from tis_sync.errors import UsageError
from tis_sync.logs import configure
from tis_sync.private_files import protect_home
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

OTHERS = 0o077


def run(folder: Path, *arguments: str, umask: int) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, under a umask, with its log and temporary files there too."""
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    environment = {
        **os.environ,
        **ON_THE_DAY,
        "TIS_SYNC_LOG_FILE": str(folder / "logs" / "tis-sync.log"),
        "TMPDIR": str(temporary),
    }
    return subprocess.run(
        [sys.executable, "-m", "tis_sync", *arguments],
        cwd=folder, env=environment, umask=umask, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def everything_in(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file and folder in a folder, with its mode."""
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            yield str(path.relative_to(folder)), stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_others_can_read_nothing_of_a_demo_with_an_export(tmp_path: Path, umask: int) -> None:
    done = run(tmp_path, "--debug", "demo", "--people", "200", umask=umask)
    assert done.returncode == 0, done.stderr
    found = dict(everything_in(tmp_path))
    names = " ".join(found)
    for part in ("tcs.sqlite", "state.sqlite", "dbos.sqlite", "search/", ".DAT", "tis-sync.log"):
        assert part in names, names
    assert {name: oct(mode) for name, mode in found.items() if mode & OTHERS} == {}


def test_what_an_earlier_version_left_readable_is_closed_at_the_next_start(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "sync.log"
    for folder in (home / "search" / "persons", home / "esr"):
        folder.mkdir(parents=True)
    for name in ("state.sqlite", "esr/DE_KSS.DAT", "search/persons/segment"):
        (home / name).write_text("Smith")
        (home / name).chmod(0o644)
    (home / "link").symlink_to("/etc/hostname")
    home.chmod(0o755)
    log.write_text("")
    log.chmod(0o644)
    Services(Settings(home=home)).close()
    configure(Settings(log_file=log))
    modes = {name: mode for name, mode in everything_in(home) if name != "link"}
    assert not [name for name, mode in modes.items() if mode & OTHERS]
    assert modes["state.sqlite"] == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_home_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(UsageError, match=r"Other users can write to .*`chmod -R go-rwx"):
        Services(Settings(home=tmp_path))
    tmp_path.chmod(0o700)
    Services(Settings(home=tmp_path)).close()


def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(UsageError, match=r"belongs to another user \(id 12345\)"):
        protect_home(tmp_path)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        protect_home(tmp_path / "home")
