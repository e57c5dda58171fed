"""Everything that is installed is pinned, and what is shipped is known, with its licence."""

import ast
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from supply_chain import licences
from supply_chain.contents import (
    BUILD_LOCK,
    EXTRA,
    LOCK,
    PROJECT,
    RECORD,
    RUNTIME_LOCK,
    VENDOR,
    pins,
    requirements,
    vendored_packages,
)
from supply_chain.licences import is_allowed, licence_of, not_allowed, page, shipped
from supply_chain.sbom import bill_of_materials
from tests.conftest import NOW, ROOT
from tis_sync.extras import EXTRAS

NPM = sorted((ROOT / "scripts/npm").glob("*/package-lock.json"))
SOURCES = [
    ROOT / "Makefile",
    ROOT / ".ci/run",
    ROOT / "deploy/Dockerfile",
    *sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file()),
    *sorted((ROOT / "tests").rglob("*.py")),
]
as_in_the_image = pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11),
    reason="requirements-runtime.lock is for Linux and Python 3.11",
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# --- what is installed ---


@pytest.mark.parametrize("lock", [LOCK, RUNTIME_LOCK, BUILD_LOCK], ids=name_of)
def test_every_package_of_a_lock_file_has_a_version_and_hashes(lock: Path) -> None:
    assert len(pins(lock)) > 5
    for pin in pins(lock):
        assert pin.hashes
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in pin.hashes), pin.name


def test_a_lock_file_without_a_hash_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    for line in ("uv==0.13.9\n", "uv>=0.13 --hash=sha256:" + "0" * 64 + "\n"):
        lock.write_text(line)
        with pytest.raises(ValueError, match=r"some.lock: 'uv.* has no exact version or no hash"):
            pins(lock)


@pytest.mark.parametrize("lock", [RUNTIME_LOCK, BUILD_LOCK], ids=name_of)
def test_what_is_shipped_and_builds_is_also_what_is_tested(lock: Path) -> None:
    tested = {(pin.name, pin.version): pin.hashes for pin in pins(LOCK)}
    for pin in pins(lock):
        assert tested.get((pin.name, pin.version)) == pin.hashes, pin.name


@as_in_the_image
def test_the_runtime_lock_has_what_the_project_requires_and_nothing_else() -> None:
    assert {pin.name for pin in pins(RUNTIME_LOCK)} == set(requirements()) - {PROJECT}
    assert {pin.name: version(pin.name) for pin in pins(RUNTIME_LOCK)} == {
        pin.name: pin.version for pin in pins(RUNTIME_LOCK)
    }


def test_the_image_contains_every_extra() -> None:
    (everything,) = map(Requirement, project()["project"]["optional-dependencies"][EXTRA])
    assert everything.extras == {extra.name for extra in EXTRAS}
    assert {extra.package for extra in EXTRAS} <= {pin.name for pin in pins(RUNTIME_LOCK)}


def test_the_build_backend_is_pinned_to_the_version_that_is_locked() -> None:
    locked = {pin.name: pin.version for pin in pins(BUILD_LOCK)}
    (backend,) = project()["build-system"]["requires"]
    assert backend == f"hatchling=={locked['hatchling']}"
    assert backend in project()["dependency-groups"]["build"]
    assert {"editables", "packaging", "pathspec", "pluggy", "trove-classifiers", "uv"} <= set(
        locked
    )


def commands(path: Path) -> Iterator[str]:
    """The commands that a file runs: lines of a shell, or lists of words in Python."""
    text = path.read_text()
    if path.suffix != ".py" and "python" not in text.splitlines()[0]:
        yield from re.split(r"\n|&&", text.replace("\\\n", " "))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.List | ast.Tuple):
            yield " ".join(
                str(word.value) if isinstance(word, ast.Constant) else ast.unparse(word)
                for word in node.elts
            )


def installing(path: Path) -> list[str]:
    """The commands of a file that install packages from a registry."""
    pattern = r"\b(pip (install|sync|download)|npm (install|i|ci|pack|exec)|npx|uv (tool|add))\b"
    return [command for command in commands(path) if re.search(pattern, command)]


INSTALLERS = [path for path in SOURCES if installing(path)]


def test_the_commands_that_install_something_are_found() -> None:
    assert {name_of(path) for path in INSTALLERS} == {
        "Makefile",
        "deploy/Dockerfile",
        "scripts/servers",
        "scripts/vendor",
        "tests/oidc.py",
    }


@pytest.mark.parametrize("path", INSTALLERS, ids=name_of)
def test_what_is_installed_is_verified(path: Path) -> None:
    for command in installing(path):
        by_pip = "--require-hashes" in command and re.search("--only-binary|--no-build ", command)
        by_npm = re.search("npm ci .*--ignore-scripts", command)
        project_itself = "--offline" in command and "--no-deps" in command
        assert by_pip or by_npm or project_itself, command


def test_every_image_has_a_tag_and_a_digest() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    images = [one["image"] for one in compose["services"].values() if "image" in one]
    images += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(images) == 7
    for image in images:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


@pytest.mark.parametrize("lock", NPM, ids=name_of)
def test_every_package_from_npm_has_an_exact_version_and_a_hash(lock: Path) -> None:
    required = json.loads((lock.parent / "package.json").read_text())["dependencies"]
    locked = json.loads(lock.read_text())["packages"]
    assert locked.pop("")["dependencies"] == required
    for name, exact in required.items():
        assert locked[f"node_modules/{name}"]["version"] == exact
    for name, package in locked.items():
        assert package["integrity"].startswith("sha512-"), name


# --- what browsers load ---


def test_every_vendored_file_is_recorded_with_its_hash() -> None:
    recorded = {name: sha for package in vendored_packages() for name, sha in package.files.items()}
    present = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path != RECORD
    }
    assert present == recorded, "scripts/vendor writes both"


def test_the_record_of_vendored_files_agrees_with_the_lock_file() -> None:
    locked = json.loads((ROOT / "scripts/npm/vendor/package-lock.json").read_text())["packages"]
    assert {f"node_modules/{package.name}" for package in vendored_packages()} == set(locked) - {""}
    for package in vendored_packages():
        entry = locked[f"node_modules/{package.name}"]
        assert (package.version, package.integrity) == (entry["version"], entry["integrity"])
        assert package.licence == entry.get("license", package.licence)
        assert f"{package.name}.LICENSE" in package.files


# --- licences ---


@as_in_the_image
def test_the_list_of_licences_is_up_to_date() -> None:
    assert (ROOT / "docs/licences.md").read_text() == page(), "write it with `make docs`"


@as_in_the_image
def test_nothing_is_shipped_under_a_licence_that_is_not_allowed() -> None:
    assert len(shipped()) == len(pins(RUNTIME_LOCK)) + len(vendored_packages())
    assert not_allowed() == []


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND AGPL-3.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_a_licence_is_judged_by_all_that_it_demands(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


def test_a_licence_that_is_not_allowed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(licences.ALLOWED, "0BSD")
    assert {one.name for one in not_allowed()} == {"htmx.org", "htmx-ext-sse"}


def package(folder: Path, *fields: str) -> None:
    """Install a package that has nothing but metadata."""
    (folder / "odd-1.0.dist-info").mkdir()
    text = "\n".join(("Metadata-Version: 2.1", "Name: odd", "Version: 1.0", *fields, ""))
    (folder / "odd-1.0.dist-info/METADATA").write_text(text)


def test_a_licence_in_free_text_must_be_judged_and_judged_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="odd is not installed"):
        licence_of("odd")
    package(tmp_path, "License: Free to use", "Classifier: License :: OSI Approved :: MIT License")
    stated = ("Free to use", "MIT License")
    with pytest.raises(ValueError, match=re.escape(f"odd state {stated} as its licence")):
        licence_of("odd")
    monkeypatch.setitem(licences.JUDGEMENTS, "odd", licences.Judgement(stated, "MIT"))
    assert licence_of("odd") == "MIT"
    monkeypatch.setitem(licences.JUDGEMENTS, "odd", licences.Judgement(("Free",), "MIT"))
    with pytest.raises(ValueError, match="Read the text of its licence"):
        licence_of("odd")


def test_every_judgement_is_still_needed() -> None:
    for name, judgement in licences.JUDGEMENTS.items():
        assert licence_of(name) == judgement.licence
        assert name in {pin.name for pin in pins(RUNTIME_LOCK)}


# --- the bill of materials ---


@as_in_the_image
def test_the_bill_of_materials_names_everything_with_hashes_licences_and_requirements() -> None:
    bill = json.loads(bill_of_materials(NOW))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == PROJECT
    assert bill["metadata"]["timestamp"] == NOW.isoformat()
    components = {one["name"]: one for one in bill["components"]}
    assert {(one["name"], one["version"]) for one in bill["components"]} == {
        (one.name, one.version) for one in shipped()
    }
    for pin in pins(RUNTIME_LOCK):
        (origin,) = components[pin.name]["externalReferences"]
        assert {one["content"] for one in origin["hashes"]} == pin.hashes
    for one in vendored_packages():
        files = components[one.name]["components"]
        assert {Path(f["name"]).name: f["hashes"][0]["content"] for f in files} == one.files
    assert all(one["licenses"] for one in bill["components"])
    everything = (*bill["components"], bill["metadata"]["component"])
    names = {one["bom-ref"]: one["name"] for one in everything}
    graph = {
        names[one["ref"]]: {names[other] for other in one.get("dependsOn", ())}
        for one in bill["dependencies"]
        if one["ref"] in names
    }
    assert {"fastapi", "psycopg", "s3fs", "htmx.org"} <= graph[PROJECT]
    assert "starlette" in graph["fastapi"]
