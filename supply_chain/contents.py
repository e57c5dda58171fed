"""What is shipped: the packages of requirements-runtime.lock, and the files that browsers load."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
RUNTIME_LOCK = ROOT / "requirements-runtime.lock"
BUILD_LOCK = ROOT / "requirements-build.lock"
LOCK = ROOT / "requirements.lock"
VENDOR = ROOT / "src/tis_sync/web/static/vendor"
RECORD = VENDOR / "vendor.json"
PROJECT = "tis-sync"
EXTRA = "all"  # the extra with everything that is shipped


@dataclass(frozen=True)
class Pin:
    """A package of a lock file: its normalised name, version, and the SHA-256 of its files."""

    name: str
    version: str
    hashes: frozenset[str]


@dataclass(frozen=True)
class VendoredPackage:
    """A package of the npm registry whose files are kept in this repository.

    Attributes:
        name: its name in the registry.
        version: its version.
        integrity: the hash of the package, as npm writes it: `sha512-` and base64.
        source: the address where it is developed.
        licence: the SPDX identifier of its licence.
        files: the SHA-256 of each file, by its name in `VENDOR`.

    """

    name: str
    version: str
    integrity: str
    source: str
    licence: str
    files: dict[str, str]


def pins(lock: Path) -> list[Pin]:
    """The packages of a lock file, in its order.

    Raises:
        ValueError: a line is not a package with an exact version and hashes.

    """
    found = []
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        name, equals, version = requirement.split(";")[0].strip().partition("==")
        if not equals or not hashes:
            raise ValueError(f"{lock.name}: {requirement!r} has no exact version or no hash.")
        found.append(Pin(canonicalize_name(name), version, frozenset(hashes)))
    return found


def vendored_packages() -> list[VendoredPackage]:
    """The packages that scripts/vendor fetched, from its record."""
    return [
        VendoredPackage(
            name=package["name"],
            version=package["version"],
            integrity=package["integrity"],
            source=package["source"],
            licence=package["licence"],
            files={name: file["sha256"] for name, file in package["files"].items()},
        )
        for package in json.loads(RECORD.read_text())["packages"]
    ]


def requirements() -> dict[str, set[str]]:
    """What the project with all extras requires here, directly or not: name -> required names.

    It is read from what is installed, and includes the project itself.

    Raises:
        ValueError: a required package is not installed.

    """
    found: dict[str, set[str]] = {}
    followed: set[tuple[str, str]] = set()
    waiting = [(PROJECT, ""), (PROJECT, EXTRA)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in followed:
            continue
        followed.add((name, extra))
        required = found.setdefault(name, set())
        for requirement in _required_by(name, extra):
            other = canonicalize_name(requirement.name)
            if other != name:
                required.add(other)
            waiting += [(other, one) for one in ("", *requirement.extras)]
    return found


def _required_by(name: str, extra: str) -> Iterator[Requirement]:
    """The requirements of a package with an extra ("" for none) that apply here."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError as error:
        raise ValueError(f"{name} is not installed: `make check` installs everything.") from error
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement
