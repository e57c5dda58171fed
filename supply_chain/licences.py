"""The licences of everything that is shipped, and the licences that may be shipped."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from license_expression import AND, OR, LicenseSymbol, get_spdx_licensing
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from supply_chain.contents import ROOT, RUNTIME_LOCK, pins, vendored_packages

SPDX = get_spdx_licensing()
PAGE = ROOT / "docs/licences.md"
PAGE_TEXT = """\
# Licences

tis-sync itself is under the MIT licence. This page lists what is shipped with it: the Python
packages of `requirements-runtime.lock`, and the files that browsers load. `make docs` writes it,
and a test compares it with what is installed.

Packages contain the texts of their licences, and those of the libraries that are compiled into
them. Development tools, and the servers that tests start, are not shipped. The images of `deploy/`
also contain Debian and Python, or the servers that they are for.

| package | version | registry | licence |
|---|---|---|---|
{packages}

## Allowed licences

A test fails if another licence comes in. Where there is a choice (OR), one allowed licence is
enough. To allow one more, add it to `supply_chain/licences.py`, with what it demands.

| licence | what it demands of whoever ships the package |
|---|---|
{allowed}
"""

# SPDX identifiers, and what each of them asks of whoever ships the software.
ALLOWED = {
    "0BSD": "nothing",
    "Apache-2.0": "keep the licence and the notices",
    "BSD-2-Clause": "keep the notice",
    "BSD-3-Clause": "keep the notice",
    "EPL-2.0": "offer the source of the package; it is used unmodified",
    "ISC": "keep the notice",
    "LGPL-3.0-only": "offer the source of the package, and let it be replaced; it is a separate, "
    "unmodified package",
    "MIT": "keep the notice",
    "MIT-0": "nothing",
    "MPL-2.0": "offer the source of the package; it is used unmodified",
    "PSF-2.0": "keep the notice",
}


@dataclass(frozen=True)
class Judgement:
    """The licence of a package whose metadata do not state one in a form that tools can read.

    Attributes:
        stated: what its metadata state: the first line of the field License, then the classifiers.
        licence: the SPDX expression that the text of its licence amounts to.

    """

    stated: tuple[str, ...]
    licence: str


APACHE, BSD, MIT = "Apache Software License", "BSD License", "MIT License"
JUDGEMENTS = {
    "aiosignal": Judgement(("Apache 2.0", APACHE), "Apache-2.0"),
    "elastic-transport": Judgement((APACHE,), "Apache-2.0"),
    "events": Judgement(("BSD", BSD), "BSD-3-Clause"),
    "jinja2": Judgement((BSD,), "BSD-3-Clause"),
    "markdown-it-py": Judgement((MIT,), "MIT"),
    "mdurl": Judgement((MIT,), "MIT"),
    "polars": Judgement(("Copyright (c) 2025 Ritchie Vink", MIT), "MIT"),
    "polars-runtime-32": Judgement((MIT,), "MIT"),
    "protobuf": Judgement(("3-Clause BSD License",), "BSD-3-Clause"),
    "python-dateutil": Judgement(("Dual License", BSD, APACHE), "Apache-2.0 AND BSD-3-Clause"),
    "s3fs": Judgement(("BSD", BSD), "BSD-3-Clause"),
    "shellingham": Judgement(("ISC License", "ISC License (ISCL)"), "ISC"),
}


@dataclass(frozen=True)
class Shipped:
    """Something that is shipped: its name, version, registry and licence (an SPDX expression)."""

    name: str
    version: str
    registry: str
    licence: str


def shipped() -> list[Shipped]:
    """Everything that is shipped beside our own code.

    Raises:
        ValueError: a package is not installed, or its licence is not known.

    """
    python = [
        Shipped(pin.name, pin.version, "PyPI", licence_of(pin.name)) for pin in pins(RUNTIME_LOCK)
    ]
    npm = [Shipped(p.name, p.version, "npm", p.licence) for p in vendored_packages()]
    return [*python, *npm]


def licence_of(name: str) -> str:
    """The licence of an installed package, as an SPDX expression.

    Raises:
        ValueError: the package is not installed; or its metadata state no SPDX expression, and
            either nobody has judged them, or they have changed since.

    """
    try:
        fields = metadata(name)
    except PackageNotFoundError as error:
        raise ValueError(f"{name} is not installed: `make check` installs everything.") from error
    expression = fields["License-Expression"] or fields["License"] or ""
    try:
        return str(canonicalize_license_expression(expression))
    except InvalidLicenseExpression:
        classifiers = fields.get_all("Classifier") or []
        stated = (
            *expression.strip().splitlines()[:1],
            *(c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")),
        )
    judgement = JUDGEMENTS.get(name)
    if judgement is None or judgement.stated != stated:
        raise ValueError(
            f"The metadata of {name} state {stated} as its licence, which is no SPDX expression. "
            "Read the text of its licence, and add to JUDGEMENTS in supply_chain/licences.py which "
            "one it is."
        )
    return judgement.licence


def is_allowed(expression: str) -> bool:
    """Whether all parts that an SPDX expression demands are allowed; of OR, one part is enough.

    Raises:
        license_expression.ExpressionError: it is not an SPDX expression.

    """
    return _is_allowed(SPDX.parse(expression, validate=True))


def not_allowed() -> list[Shipped]:
    """What is shipped under a licence that is not allowed."""
    return [one for one in shipped() if not is_allowed(one.licence)]


def page() -> str:
    """The page docs/licences.md."""
    rows = [f"| {s.name} | {s.version} | {s.registry} | {s.licence} |" for s in shipped()]
    allowed = [f"| {licence} | {demand} |" for licence, demand in ALLOWED.items()]
    return PAGE_TEXT.format(packages="\n".join(rows), allowed="\n".join(allowed))


def _is_allowed(expression: object) -> bool:
    match expression:
        case AND():
            return all(map(_is_allowed, expression.args))
        case OR():
            return any(map(_is_allowed, expression.args))
        case LicenseSymbol():
            return expression.key in ALLOWED
    return False  # a licence WITH an exception: not allowed as a whole
