"""One word, one meaning: abandoned names and phrases do not come back.

docs/glossary.md has the words to use instead.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src/tis_sync"

# Files about the old names: the list of what was renamed, and migrations with their test, which
# name tables, columns and alarm kinds as they were at the time.
EXEMPT = {
    ROOT / "CHANGELOG.md",
    ROOT / "tests/unit/test_vocabulary.py",
    ROOT / "tests/unit/test_migrations.py",
    *(PACKAGE / "state/migrations/versions").glob("v*.py"),
}

OLD_MODULES = (
    "acts|ask|builds|bury|courier|days|depends|doing|ears|elsewhere|find|forget|in_force|intake|"
    "java_lock|judge|late|leftovers|letters|limit|lines|listen|look|looking|missed|missing|"
    "obituary|old|old_way|ours|outcome|parts|picture|pressure|provider|registry|rotation|shield|"
    "shown|step|tell|together|unusual|valid|verdict|watch|wellbeing|who|workers|workflows"
)
OLD_CLASSES = "Courier|Part|Pressure|Reply|Story"
# Names of functions, attributes and variables: participles, pronouns, metaphors, renamed settings.
OLD_NAMES = (
    "alert_runs|alert_urls|announce|ask|ask_again|bring_up_to_date|bulk_patience_seconds|"
    "buried_at|buried_by|bury|bury_dead|dead_after_seconds|enlist|esr_first_numbers|esr_since|"
    "explained|is_scattered|left_by_old_service|leftovers|lies_by|living|made|makes|mend|"
    "mind_size|mine|passing|patience|retire|said|shown|spans|stop_seconds|tell|there|told|"
    "told_at|verdict|wanted|watch|who|wrote"
)
OLD_PHRASES = (
    r"\bmend(s|ed|ing)?\b",
    r"\bparted by\b",
    r"\bhas it no more\b",
    r"\b(not|nothing|nobody|none) any more\b",
    r"\bso far ahead of\b",
    r"\b(go|goes|going) on\b",
    r"\bgone silent\b",
    r"\bas (it|they) should be\b",
    r"\bat the most\b",
    r"\bto be had\b",
    r"\bmakes? true\b",
    r"\bwhatever it takes\b",
    r"\bnobody reads it\b",
    r"\btold\b",
    r"\bsaid\b",
    r"\b(succeeded|up to date|run) never\b",
    r"\bfor good\b",
    r"\bold way\b",
    r"\bmay look\b",
    r"\bTell me\b",
    r"\bBy hand\b",
    r"\bSomebody is missing\b",
    r"\bShould hold\b",
    r"\bMade right\b",
    r"\bpatience\b",
    r"\bobituar(y|ies)\b",
    r"\bcouriers?\b",
    r"TIS_SYNC_(ALERT_|BULK_PATIENCE_|STOP_SECONDS|DEAD_AFTER_|ESR_FIRST_NUMBERS|ESR_SINCE)\w*",
    r"tis_sync_esr_stuck_records",
)


def code() -> list[Path]:
    folders = (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "supply_chain")
    return sorted({path for folder in folders for path in folder.rglob("*.py")} - EXEMPT)


def texts() -> list[Path]:
    web = [*(PACKAGE / "web").rglob("*.html"), *(PACKAGE / "web/static").glob("*.js")]
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    others = [*(ROOT / "deploy").iterdir(), ROOT / "Makefile", ROOT / ".ci/run"]
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted({*code(), *web, *scripts, *others, *documents, *PACKAGE.rglob("*.toml")} - EXEMPT)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def names_in(path: Path) -> Iterator[str]:
    """The names that a module defines, and the names of the arguments that it passes."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.arg(arg=str(name)) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(asname=str(name)):
                yield name


def test_no_module_has_an_old_name() -> None:
    old = [path for path in code() if re.fullmatch(OLD_MODULES, path.stem)]
    assert [name_of(path) for path in old] == []


@pytest.mark.parametrize("path", code(), ids=name_of)
def test_no_old_name_is_used(path: Path) -> None:
    old = {
        name
        for name in names_in(path)
        if re.fullmatch(OLD_NAMES, name.removeprefix("_")) or re.fullmatch(OLD_CLASSES, name)
    }
    assert old == set()


@pytest.mark.parametrize("path", texts(), ids=name_of)
def test_no_old_phrase_is_used(path: Path) -> None:
    # Without the ends of lines, of comments and of the parts of a text.
    whole = re.sub(r'"?\s*\n\s*(#+ |//+ )?f?"?', " ", path.read_text())
    found = [
        whole[max(0, match.start() - 40) : match.end() + 40]
        for phrase in OLD_PHRASES
        for match in re.finditer(phrase, whole)
    ]
    assert found == []
