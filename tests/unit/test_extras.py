"""Optional packages: the core works without them, and a missing one is reported clearly."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tis_sync import extras
from tis_sync.errors import UsageError
from tis_sync.search.connect import connect
from tis_sync.settings.model import Settings

ROOT = Path(__file__).parent.parent.parent
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Imports the program as in an installation without any extras, then calls it.
CORE_ONLY = """
import sys

MISSING = {
    "aio_pika", "aiormq", "asyncssh", "elastic_transport", "elasticsearch", "fast_depends",
    "faststream", "opensearchpy", "s3fs", "sshfs",
}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from tis_sync.cli import main

main()
"""


def core_only(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Call `tis-sync` without any extras."""
    environment = {"TIS_SYNC_HOME": str(home), "PATH": "", "COLUMNS": "200"}
    environment |= {f"TIS_SYNC_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", CORE_ONLY, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=home.parent,
    )


@pytest.mark.parametrize("extra", extras.EXTRAS, ids=lambda extra: extra.name)
def test_every_extra_is_declared_with_its_package(extra: extras.Extra) -> None:
    assert any(requirement.startswith(extra.package) for requirement in OPTIONAL[extra.name])
    (everything,) = OPTIONAL["all"]
    assert extra.name in everything


def test_the_core_works_without_any_extras(tmp_path: Path) -> None:
    ended = core_only(tmp_path / "home", "demo", "--people", "50")
    assert ended.returncode == 0, ended.stderr
    ended = core_only(tmp_path / "home", "night")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("extra", "settings", "command"),
    [
        (
            extras.ELASTICSEARCH,
            {"search_url": "elasticsearch+http://127.0.0.1:9"},
            ["search", "persons"],
        ),
        (extras.OPENSEARCH, {"search_url": "opensearch+http://127.0.0.1:9"}, ["search", "persons"]),
        (extras.S3, {"export_url": "s3://bucket/folder"}, ["doctor", "--json"]),
        (
            extras.SFTP,
            {
                "export_url": "sftp://user@127.0.0.1:9/folder",
                "export_options": '{"host_key_fingerprint": "SHA256:' + "a" * 43 + '"}',
            },
            ["doctor", "--json"],
        ),
        (extras.RABBITMQ, {"broker_url": "amqp://127.0.0.1:9/"}, ["esr", "listen"]),
    ],
    ids=lambda value: value.name if isinstance(value, extras.Extra) else "",
)
def test_a_missing_package_is_reported_with_how_to_install_it(
    tmp_path: Path, extra: extras.Extra, settings: dict[str, str], command: list[str]
) -> None:
    ended = core_only(tmp_path / "home", *command, **settings)
    assert ended.returncode != 0
    message = (
        f"{extra.title} needs the package {extra.package}, which is not installed: "
        f"pip install 'tis-sync[{extra.name}]'."
    )
    assert message in " ".join((ended.stdout + ended.stderr).split())


@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_a_search_server_whose_client_is_missing_is_a_usage_error(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = {"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[kind]
    module = {"elasticsearch": "elastic", "opensearch": "opensearch"}[kind]
    monkeypatch.setitem(sys.modules, client, None)
    monkeypatch.delitem(sys.modules, f"tis_sync.search.{module}", raising=False)
    monkeypatch.delattr(f"tis_sync.search.{module}", raising=False)
    with pytest.raises(UsageError, match=rf"pip install 'tis-sync\[{kind}\]'"):
        connect(Settings(home=tmp_path, search_url=f"{kind}+http://127.0.0.1:9"))


def test_a_bug_in_our_own_modules_is_not_mistaken_for_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError), extras.needs(extras.S3):
        import_module("tis_sync.nothing")
