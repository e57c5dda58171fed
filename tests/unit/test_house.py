"""The house: which package may import which, read from the imports themselves."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "tis_sync"
MODULES_PER_PACKAGE = 12

# From top to bottom. A module imports only from lower lines; those of one line do not import each
# other. A name stands for a module, or for a package with everything in it, unless a longer name
# has a line of its own. `__init__` (the version) and `__main__` belong to no layer.
LAYERS = (
    ("cli",),
    ("web.app", "web.server"),
    ("web.pages",),
    ("web.api", "web.legacy_api", "web.health", "web.metrics"),
    ("web",),
    ("web.presenters",),
    ("web.feeds", "web.templates"),
    ("web.auth",),
    ("app",),
    ("actions", "doctor"),
    ("retention",),
    ("esr.messaging",),
    ("esr.export",),
    ("esr.notifications",),
    ("esr.applicants",),
    ("esr.files",),
    ("esr",),
    ("workers",),
    ("execution",),
    ("runs",),
    ("demo",),
    ("jobs",),
    ("reconcile",),
    ("search", "tcs"),
    ("audit", "alarms"),
    ("durable",),
    ("state",),
    ("db",),
    ("logs",),
    ("settings", "extras", "memory", "private_files"),
    ("errors", "iso_day", "text", "urls"),
)
# `runs` stands above `demo` so that `demo` may import jobs; no package but `cli` imports `demo`.
ONLY_IMPORTERS = {"demo": {"cli", "demo"}}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The name of a module without `tis_sync.`; for `__init__`, the name of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """What a module imports from tis_sync, including in functions and for type checking."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("tis_sync."):
                    yield alias.name.removeprefix("tis_sync.")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            module = node.module or ""
            if module != "tis_sync" and not module.startswith("tis_sync."):
                continue
            base = module.removeprefix("tis_sync").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".removeprefix(".")
                if exists(full):
                    yield full
                elif base:
                    yield base


def exists(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def layer_of(name: str) -> tuple[int, str]:
    """The number of the line that a module belongs to, and its name in that line."""
    found = [
        (len(prefix), number, prefix)
        for number, layer in enumerate(LAYERS)
        for prefix in layer
        if name == prefix or name.startswith(prefix + ".")
    ]
    assert found, f"{name} has no place in the house"
    _, number, prefix = max(found)
    return number, prefix


def package_of(name: str) -> str:
    """The package that a module belongs to; for a top-level module, its own name."""
    path = PACKAGE.joinpath(*name.split("."))
    return name if path.is_dir() else name.rpartition(".")[0] or name


IMPORTS = {
    name: set(imports_of(path))
    for path in modules()
    if (name := name_of(path)) not in {"", "__main__"}
}


@pytest.mark.parametrize("name", IMPORTS)
def test_a_module_imports_only_from_lower_layers(name: str) -> None:
    number, own = layer_of(name)
    for imported in IMPORTS[name]:
        below, other = layer_of(imported)
        assert below > number or other == own, f"{name} imports {imported}"


def test_every_module_in_the_order_exists() -> None:
    for layer in LAYERS:
        for name in layer:
            assert exists(name), name


def test_no_packages_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for name, imported in IMPORTS.items():
        # Of web and esr, each root module counts by itself: some are above the rooms, some below.
        own = name if package_of(name) in {"web", "esr"} else package_of(name)
        others = {o if package_of(o) in {"web", "esr"} else package_of(o) for o in imported}
        graph.setdefault(own, set()).update(others - {own})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_the_command_line_imports_demo_data() -> None:
    for target, allowed in ONLY_IMPORTERS.items():
        importers = {
            name.split(".")[0]
            for name, imported in IMPORTS.items()
            if any(other.split(".")[0] == target for other in imported)
        }
        assert importers <= allowed, target


def test_no_package_has_too_many_modules() -> None:
    crowded = {}
    for folder in {path.parent for path in modules()} - {PACKAGE}:
        count = len([path for path in folder.glob("*.py") if path.stem != "__init__"])
        if count > MODULES_PER_PACKAGE and folder.name != "versions":
            crowded[name_of(folder / "__init__.py")] = count
    assert crowded == {}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_is_imported_for_its_side_effect_and_nothing_is_global(path: Path) -> None:
    text = path.read_text()
    assert "noqa: F401" not in text
    globals_ = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Global)]
    assert [node.lineno for node in globals_] == []
