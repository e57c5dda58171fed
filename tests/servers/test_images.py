"""The images of deploy/: pinned by what a registry says, and built as the Dockerfile says."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from supply_chain.contents import BUILD_LOCK, PROJECT, RUNTIME_LOCK, pins
from tests.conftest import ROOT, absent
from tests.destinations import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.servers

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass
class Registry:
    """A registry of images: its address, and the environment in which skopeo trusts it."""

    address: str
    environment: dict[str, str]
    home: Path

    def publish(self, name: str, content: str) -> str:
        """Publish an image for two platforms under a tag; return the digest of its index."""
        layout = self.home / f"layout-{hashlib.sha256(f'{name} {content}'.encode()).hexdigest()}"
        (layout / "blobs/sha256").mkdir(parents=True)

        def blob(value: dict[str, Any], media_type: str) -> dict[str, Any]:
            data = json.dumps(value).encode()
            digest = hashlib.sha256(data).hexdigest()
            (layout / "blobs/sha256" / digest).write_bytes(data)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

        manifests = []
        for architecture in ("amd64", "arm64"):
            platform = {"os": "linux", "architecture": architecture}
            labels = {"config": {"Labels": {"content": content}}}
            layers = {"rootfs": {"type": "layers", "diff_ids": []}}
            manifest = {
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": blob(platform | labels | layers, CONFIG), "layers": [],
            }  # fmt: skip
            manifests.append(blob(manifest, MANIFEST) | {"platform": platform})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        entry = blob(index, INDEX)
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        subprocess.run(
            ["skopeo", "copy", "--insecure-policy", "--quiet", "--all",
             f"oci:{layout}", f"docker://{self.address}/{name}"],
            env=self.environment, check=True,
        )  # fmt: skip
        return str(entry["digest"])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if program is None or shutil.which("skopeo") is None:
        absent("no docker-registry with skopeo, for images")
        raise AssertionError
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'images'}}}}}\n"
    )
    trusted = tmp_path / ".config/containers/registries.conf"
    trusted.parent.mkdir(parents=True)
    trusted.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log
        )
    try:
        eventually(lambda: answers(f"http://{address}/v2/"))
        environment = os.environ | {
            "HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(trusted.parent.parent),
        }
        yield Registry(address, environment, tmp_path)
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except URLError:
        return False


@pytest.fixture
def pin_images(registry: Registry) -> Path:
    """The script, beside a copy of deploy/ whose images come from the registry, at any tag."""
    shutil.copytree(ROOT / "deploy", registry.home / "deploy")
    (registry.home / "deploy/Dockerfile").write_text(
        f"FROM {registry.address}/python:3.11 AS build\nFROM {registry.address}/python:3.11\n"
    )
    (registry.home / "deploy/compose.yaml").write_text(
        f"services:\n  broker:\n    image: {registry.address}/some/broker:3@sha256:{'0' * 64}\n"
    )
    script = registry.home / "scripts/pin-images"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts/pin-images", script)
    return script


def run(script: Path, registry: Registry, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, script, *arguments],
        env=registry.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_every_image_is_pinned_to_what_its_tag_means(registry: Registry, pin_images: Path) -> None:
    python = registry.publish("python:3.11", "first")
    broker = registry.publish("some/broker:3", "first")
    result = run(pin_images, registry)
    assert result.returncode == 0
    assert f"python:3.11 is {python} now, and was not pinned" in result.stdout
    deploy = registry.home / "deploy"
    pinned = f"{registry.address}/python:3.11@{python}"
    assert (deploy / "Dockerfile").read_text() == f"FROM {pinned} AS build\nFROM {pinned}\n"
    assert (
        f"image: {registry.address}/some/broker:3@{broker}\n"
        in (deploy / "compose.yaml").read_text()
    )
    assert run(pin_images, registry, "--check").returncode == 0


def test_a_tag_that_means_another_image_is_reported(registry: Registry, pin_images: Path) -> None:
    registry.publish("some/broker:3", "first")
    first = registry.publish("python:3.11", "first")
    run(pin_images, registry)
    before = (registry.home / "deploy/Dockerfile").read_text()
    second = registry.publish("python:3.11", "second")
    assert first != second
    result = run(pin_images, registry, "--check")
    assert result.returncode == 1
    assert f"python:3.11 is {second} now, and was {first}" in result.stdout
    assert (registry.home / "deploy/Dockerfile").read_text() == before


def test_an_image_that_the_registry_lacks_is_named(registry: Registry, pin_images: Path) -> None:
    before = (registry.home / "deploy/Dockerfile").read_text()
    result = run(pin_images, registry)
    assert result.returncode == 1
    assert f"No digest of {registry.address}/python:3.11" in result.stderr
    assert (registry.home / "deploy/Dockerfile").read_text() == before


# --- the steps of the Dockerfile, without Docker ---


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the packages of requirements-build.lock."""
    folder = tmp_path / "wheels"
    result = pip("download", "--dest", str(folder), "--requirement", str(BUILD_LOCK))
    if result.returncode:
        absent("no package index")
    return folder


def pip(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes")
    return subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_steps_of_the_image_install_what_is_shipped_and_nothing_else(
    tmp_path: Path, wheels: Path
) -> None:
    stage = (ROOT / "deploy/Dockerfile").read_text().split("\nFROM ")[1]
    source = tmp_path / "source"
    source.mkdir()
    for line in re.findall(r"^COPY (.*) /source/\w*$", stage, re.MULTILINE):
        for name in line.split():
            path = ROOT / name
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, source / name)
    steps = re.findall(r"^RUN ((?:.*\\\n)*.*)$", stage, re.MULTILINE)
    assert len(steps) == 2
    opt = tmp_path / "opt"
    environment = os.environ | {"PIP_FIND_LINKS": str(wheels)}
    for step in steps:
        here = step.replace("/opt/", f"{opt}/").replace("python -m", f"{sys.executable} -m")
        subprocess.run(["sh", "-ec", here], cwd=source, env=environment, check=True)
    program = opt / "tis-sync/bin/tis-sync"
    subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
    folders = (opt / "tis-sync").glob("lib/python*/site-packages/*.dist-info")
    installed = {re.sub(r"[-_.]+", "-", f.stem.partition("-")[0]).lower() for f in folders}
    assert installed == {pin.name for pin in pins(RUNTIME_LOCK)} | {PROJECT}


def test_a_package_with_another_hash_is_not_installed(tmp_path: Path, wheels: Path) -> None:
    (pin,) = [pin for pin in pins(BUILD_LOCK) if pin.name == "editables"]
    for hash_, refused in ((sorted(pin.hashes), False), (["0" * 64], True)):
        lock = tmp_path / "some.lock"
        lock.write_text(
            f"{pin.name}=={pin.version} " + " ".join(f"--hash=sha256:{one}" for one in hash_) + "\n"
        )
        target = tmp_path / f"target-{refused}"
        result = pip(
            "install", "--no-index", "--find-links", str(wheels),
            "--target", str(target), "--requirement", str(lock),
        )  # fmt: skip
        assert bool(result.returncode) is refused, result.stderr
        assert (target / "editables").exists() is not refused
    assert "DO NOT MATCH THE HASHES" in result.stderr
