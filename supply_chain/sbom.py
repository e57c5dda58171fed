"""The software bill of materials: what is shipped, in the format CycloneDX.

cyclonedx-py reads the packages and their hashes from the lock file. Added here: their licences and
what each of them requires, and the files that browsers load.
"""

import json
import subprocess
import sys
from base64 import b64decode
from datetime import datetime

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator, JsonValidationError
from packageurl import PackageURL

import tis_sync
from supply_chain.contents import (
    PROJECT,
    ROOT,
    RUNTIME_LOCK,
    VENDOR,
    VendoredPackage,
    requirements,
    vendored_packages,
)
from supply_chain.licences import licence_of

VERSION = SchemaVersion.V1_6
LICENCES = LicenseFactory()


def bill_of_materials(now: datetime) -> str:
    """The bill of materials as JSON, with the time at which it was written.

    Raises:
        ValueError: a package is not installed, or its licence is not known; cyclonedx-py cannot
            read the lock file, or it does not have what is required here; or the result does not
            conform to the schema of CycloneDX.

    """
    bom = _from_lock()
    root = bom.metadata.component
    assert root is not None
    root.version = tis_sync.__version__
    # A set finds its components by their content: they leave it before they are changed.
    python = {component.name: component for component in bom.components}
    bom.components.clear()
    for component in python.values():
        component.description = None  # is the line of the lock file
        _add_licence(component, licence_of(component.name))
    vendored = [_component(package) for package in vendored_packages()]
    bom.components.update((*python.values(), *vendored))
    graph = requirements()
    if different := (set(graph) - {PROJECT}) ^ set(python):
        raise ValueError(
            f"{', '.join(sorted(different))}: only in {RUNTIME_LOCK.name}, or only required here. "
            "The bill of materials is made on Linux with Python 3.11, after `make lock`."
        )
    for name, required in graph.items():
        parts = [python[other] for other in required]
        if name == PROJECT:
            bom.register_dependency(root, [*parts, *vendored])
        else:
            bom.register_dependency(python[name], parts)
    bom.metadata.timestamp = now
    text = make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=2)
    error = JsonStrictValidator(VERSION).validate_str(text)
    if error is not None:
        raise ValueError(f"The bill of materials does not conform to CycloneDX: {_place(error)}.")
    return text


def _from_lock() -> Bom:
    """The packages of the lock file with their hashes."""
    command = [
        sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements",
        "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application",
        "--of", "JSON", "--no-validate", "--output-reproducible", "--output-file", "-",
        str(RUNTIME_LOCK),
    ]  # fmt: skip
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise ValueError(f"cyclonedx-py cannot read {RUNTIME_LOCK.name}: {result.stderr.strip()}")
    bom: Bom = Bom.from_json(json.loads(result.stdout))  # type: ignore[attr-defined]
    return bom


def _component(package: VendoredPackage) -> Component:
    """A package whose files browsers load; its parts are the files, with their SHA-256."""
    algorithm, _, digest = package.integrity.partition("-")
    assert algorithm == "sha512", package.integrity
    component = Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=f"npm-{package.name}",
        purl=PackageURL("npm", None, package.name, package.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_512, content=b64decode(digest).hex())],
        external_references=[
            ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(package.source))
        ],
        components=[
            Component(
                type=ComponentType.FILE,
                name=(VENDOR / name).relative_to(ROOT).as_posix(),
                bom_ref=f"file-{name}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
            )
            for name, sha256 in package.files.items()
        ],
    )
    _add_licence(component, package.licence)
    return component


def _add_licence(component: Component, expression: str) -> None:
    component.licenses.clear()
    component.licenses.add(
        LICENCES.make_from_string(
            expression, license_acknowledgement=LicenseAcknowledgement.CONCLUDED
        )
    )


def _place(error: JsonValidationError) -> str:
    """Where a document differs from the schema, without the document itself."""
    return f"{error.data.json_path} ({error.data.validator})"
