"""The files that browsers load are those of the packages that the record names."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supply_chain.contents import VENDOR
from tests.conftest import ROOT, absent

pytestmark = pytest.mark.servers


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """The script, beside a copy of the vendored files and of its lock file."""
    if shutil.which("npm") is None:
        absent("no npm")
    shutil.copytree(ROOT / "scripts/npm/vendor", tmp_path / "scripts/npm/vendor")
    shutil.copytree(VENDOR, tmp_path / VENDOR.relative_to(ROOT))
    shutil.copy(ROOT / "scripts/vendor", tmp_path / "scripts/vendor")
    return tmp_path / "scripts/vendor"


def run(script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_vendored_files_come_from_npm_and_a_change_is_found(
    vendor: Path, tmp_path: Path
) -> None:
    unchanged = run(vendor, "--check")
    assert (unchanged.returncode, unchanged.stdout) == (0, ""), unchanged.stderr
    script = tmp_path / VENDOR.relative_to(ROOT) / "htmx.min.js"
    content = script.read_text()
    script.write_text(content + "fetch('/sync/api')")
    changed = run(vendor, "--check")
    assert (changed.returncode, changed.stdout) == (1, "differs: htmx.min.js\n")
    assert run(vendor).stdout == "written: htmx.min.js\n"
    assert script.read_text() == content


def test_a_package_with_another_hash_is_refused(vendor: Path, tmp_path: Path) -> None:
    lock = tmp_path / "scripts/npm/vendor/package-lock.json"
    text = lock.read_text()
    start = text.index("sha512-")
    lock.write_text(text[:start] + "sha512-" + "A" * 86 + "==" + text[text.index('"', start) :])
    before = contents(tmp_path / "src")
    result = run(vendor)
    assert result.returncode != 0
    assert contents(tmp_path / "src") == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
