"""The documents match the program. These tests compare and fail; none of them writes a file."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from tests.conftest import ROOT
from tis_sync.alarms.catalogue import KINDS
from tis_sync.cli.app import app
from tis_sync.esr.messaging.contract import (
    AppFileCommand,
    AppRecord,
    FileGenerated,
    NotificationFileCommand,
    RecordExported,
)
from tis_sync.esr.messaging.topology import NAMES
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS
from tis_sync.settings.model import Settings

SOURCE = ROOT / "src/tis_sync"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]
# The changelog names what was renamed: commands, settings and paths that no longer exist.
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
OTHERS = [
    *sorted((ROOT / "deploy").iterdir()),
    ROOT / "Makefile",
    ROOT / ".ci/run",
    ROOT / "scripts/pin-images",
    ROOT / "scripts/servers",
    ROOT / "scripts/vendor",
    ROOT / "scripts/screenshots",
]
TEMPLATES = sorted((SOURCE / "web/templates").glob("*.html"))
# What code writes where a command has a value.
VALUE = "VALUE"
# The files that CONTRIBUTING.md has a reader create.
TO_BE_CREATED = {
    "src/tis_sync/jobs/programme_status.py",
    "state/migrations/versions/v0006_NAME.py",
}
FENCED = re.DOTALL | re.MULTILINE


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generator() -> Any:
    """The script that generates parts of the documents."""
    loader = SourceFileLoader("generate_docs", str(ROOT / "scripts/generate-docs"))
    spec = importlib.util.spec_from_loader("generate_docs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_generated_pages_match_the_code(generator: Any) -> None:
    stale = [path.name for path in generator.stale_pages()]
    assert stale == [], "write them with `make docs`, and read what changed"


def test_every_setting_is_documented_in_one_group(generator: Any) -> None:
    page = generator.settings_markdown()
    for name in Settings.model_fields:
        assert page.count(f"| `TIS_SYNC_{name.upper()}` |") == 1, name


def test_every_alarm_kind_is_explained_on_its_page(generator: Any) -> None:
    for kind in KINDS:
        table = generator.alarms_markdown(kind.runbook)
        assert re.search(rf"^\| {kind.name} \| {kind.subject} \|", table, re.MULTILINE)
        assert "{" not in table


def test_the_reasons_in_the_runbook_occur_in_messages() -> None:
    section = (ROOT / "docs/runbook.md").read_text().split("## Reasons of failed runs")[1]
    reasons = re.findall(r'^\| "([^"]+)"', section, re.MULTILINE)
    assert len(reasons) > 5
    messages = [text for path in SOURCE.rglob("*.py") for text in texts_in(path)]
    for reason in reasons:
        assert any(reason in message for message in messages), reason


def test_every_queue_and_field_of_a_message_is_documented() -> None:
    page = (ROOT / "docs/messages.md").read_text()
    for name in NAMES:
        assert f"`{name}`" in page, name
    for model in (
        AppRecord,
        AppFileCommand,
        NotificationFileCommand,
        RecordExported,
        FileGenerated,
    ):
        for field in model.model_fields.values():
            assert f"`{field.alias}`" in page, field.alias


def test_the_readme_opens_with_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text().splitlines()[:6]
    assert any("make demo" in line for line in opening)
    assert any("make test" in line for line in opening)


def test_the_readme_lists_every_job_with_its_time() -> None:
    readme = (ROOT / "README.md").read_text()
    for job in JOBS:
        assert re.search(rf"\| {job.name} \| {job.at:%H:%M} \|", readme), job.name


def test_every_job_is_defined_in_the_documentation() -> None:
    page = (ROOT / "docs/jobs.md").read_text()
    for job in JOBS:
        assert job.name in page or "TrustJob" in job.name, job.name


def test_the_readme_names_every_command() -> None:
    table = (ROOT / "README.md").read_text().split("## Commands")[1].split("\n## ")[0]
    for name in top().commands:
        assert re.search(rf"`(tis-sync )?{name}\b", table), name


def test_the_example_in_contributing_is_a_job() -> None:
    blocks = re.findall(r"```python\n(.*?)^ *```", (ROOT / "CONTRIBUTING.md").read_text(), FENCED)
    (example,) = [block for block in blocks if " = Job(" in block]
    names: dict[str, Any] = {}
    exec(dedent(example), names)
    (job,) = [value for value in names.values() if isinstance(value, Job)]
    assert job.needed()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_and_picture_exists(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            assert anchor.removeprefix("#") in anchors(file), target + anchor


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}


@pytest.mark.parametrize("path", [*CURRENT, *OTHERS], ids=name_of)
def test_every_setting_named_in_a_document_exists(path: Path) -> None:
    known = {f"TIS_SYNC_{name.upper()}" for name in Settings.model_fields}
    for name in re.findall(r"\bTIS_SYNC_[A-Z_]*[A-Z]\b", path.read_text()):
        assert name in known or name.startswith("TIS_SYNC_TEST_"), name


def test_every_setting_named_in_a_message_exists() -> None:
    known = {f"TIS_SYNC_{name.upper()}" for name in Settings.model_fields}
    for path in [*SOURCE.rglob("*.py"), *TEMPLATES]:
        for name in re.findall(r"\bTIS_SYNC_[A-Z_]*[A-Z]\b", path.read_text()):
            assert name in known, (path, name)


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_every_path_named_in_a_document_exists(path: Path) -> None:
    text = path.read_text()
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=FENCED)
    names = set(re.findall(r"`([\w.-]+(?:/[\w.*-]+)+/?|[\w.-]+/)`", prose))
    # In pictures, modules are named without backticks.
    names |= set(re.findall(r"\b(?:[a-z_]+/)+[a-z_]+\.py\b", text))
    for name in names - TO_BE_CREATED:
        first = name.split("/")[0]
        if not ((ROOT / first).is_dir() or (SOURCE / first).is_dir()):
            continue  # a path of something else, as in an address
        found = [folder for folder in (ROOT, SOURCE) if any(folder.glob(name.rstrip("/")))]
        assert found, name


def test_the_architecture_names_every_package_and_top_level_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    house = page.split("## The house")[1].split("```")[1]
    for path in SOURCE.iterdir():
        if path.name.startswith("__") or not (path.is_dir() or path.suffix == ".py"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.search(rf"(^|\s){re.escape(name)}", house), name
    for path in (SOURCE / "esr").iterdir():
        if path.is_dir() and not path.name.startswith("__"):
            assert re.search(rf"^    {path.name}/", house, re.MULTILINE), path.name


# --- commands ---


def top() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def texts_in(path: Path) -> Iterator[str]:
    """The complete strings of a module; `VALUE` replaces what an f-string inserts."""
    tree = ast.parse(path.read_text())
    parts = {
        id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(v.value) if isinstance(v, ast.Constant) else VALUE for v in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            yield node.value


def commands_in_text(text: str) -> Iterator[str]:
    """The commands in backticks; `VALUE` replaces the {values} of a template."""
    for command in re.findall(r"`((?:\S*/)?tis-sync(?: [^`]*)?)`", " ".join(text.split())):
        yield re.sub(r"\{[^}]*\}", VALUE, command)


def commands_in_document(path: Path) -> Iterator[str]:
    text = path.read_text()
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, FENCED)
    for line in "\n".join(blocks).splitlines():
        for part in line.split("#")[0].split("&&"):
            if re.match(r"\s*(\S*/)?tis-sync\s", part):
                yield part.strip()
    without_blocks = re.sub(r"^ *```.*?^ *```", "", text, flags=FENCED)
    for paragraph in re.split(r"\n\s*\n|\n(?=\|)", without_blocks):
        yield from commands_in_text(paragraph)


def check_command(command: str) -> None:
    """Follow a command line through the program's commands.

    Raises:
        AssertionError: a command or an option does not exist, or there are too many arguments.

    """
    command = re.split(r" [|>] ", command)[0]  # the rest is the shell's
    words = shlex.split(re.sub(r"[\[\]|]|\.\.\.", " ", command))[1:]
    where: Any = top()
    arguments = 0
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            options = [o for o in where.params if name in o.opts or name in o.secondary_opts]
            assert options or name == "--help", f"no option {name}"
            option = options[0] if options else None
            if isinstance(option, TyperOption) and not option.is_flag and not equals:
                assert words, f"{name} needs a value"
                words.pop(0)
        elif isinstance(where, TyperGroup):
            found = where.commands.get(word)
            assert found is not None, f"no command {word}"
            where = found
        else:
            arguments += 1
    accepted = [p for p in where.params if isinstance(p, TyperArgument)]
    if all(argument.nargs == 1 for argument in accepted):
        assert arguments <= len(accepted), "too many arguments"


def test_the_check_of_commands_can_fail() -> None:
    assert len(list(commands_in_document(ROOT / "README.md"))) > 15
    check_command("tis-sync --debug run JOB --dry-run --date=2026-03-02")
    for wrong in ("tis-sync rin JOB", "tis-sync run JOB --dry", "tis-sync show RUN OTHER"):
        with pytest.raises(AssertionError):
            check_command(wrong)


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_every_command_in_a_document_exists(path: Path) -> None:
    for command in commands_in_document(path):
        try:
            check_command(command)
        except AssertionError as error:
            raise AssertionError(f"`{command}`: {error}") from error


def test_every_command_in_a_message_exists() -> None:
    checked = 0
    for path in sorted(SOURCE.rglob("*.py")):
        for text in texts_in(path):
            for command in commands_in_text(text):
                checked += 1
                try:
                    check_command(command)
                except AssertionError as error:
                    raise AssertionError(f"{path.name}: `{command}`: {error}") from error
    assert checked > 40


def test_every_command_on_a_page_exists() -> None:
    for path in TEMPLATES:
        for command in re.findall(r"<code>(tis-sync [^<]*)</code>", path.read_text()):
            check_command(re.sub(r"\{\{.*?\}\}", VALUE, command))


def test_every_remedy_names_commands_that_exist() -> None:
    commands = [command for kind in KINDS for command in commands_in_text(kind.remedy)]
    assert len(commands) > len(KINDS) // 2
    for command in commands:
        check_command(command)
