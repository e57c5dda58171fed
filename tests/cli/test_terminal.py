"""Values from TCS are text on the terminal: neither markup of Rich nor control characters act."""

import ast
import io
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.conftest import Program
from tis_sync import logs
from tis_sync.db.database import connect
from tis_sync.settings.model import LogFormat, Settings
from tis_sync.tcs import tables as t
from tis_sync.text import printable

PACKAGE = Path(__file__).parent.parent.parent / "src/tis_sync"
# A closing tag without an opening one is an error for Rich; ESC[2J clears a terminal, U+009B is the
# same in one character, U+202E reverses what follows, and a carriage return overwrites the line.
MARKUP, CONTROLS = "[/] [red]x[/red] :smile:", "\x1b[2J\x9b1m\u202eB\rA\nC\x07"
HOSTILE = f"O{MARKUP}{CONTROLS}"
DANGEROUS = set("\x1b\x9b\u202e\r\x07")


@pytest.fixture
def hostile(program: Program, tmp_path: Path) -> None:
    """A TCS with hostile texts; the names of half of its people have no control characters."""
    assert program("demo", "--people", "300", "--data-only").code == 0
    database = connect(f"sqlite:///{tmp_path / 'home' / 'tcs.sqlite'}", name="TCS", setting="-")
    people = t.ContactDetails
    is_even = people.c.id % 2 == 0
    with database.write() as connection:
        for condition, name in ((is_even, HOSTILE), (~is_even, f"O{MARKUP}")):
            names = dict.fromkeys(("surname", "legalSurname"), name)
            connection.execute(sa.update(people).where(condition).values(names))
        connection.execute(sa.update(t.Placement).values(siteCode=HOSTILE))
        connection.execute(sa.update(t.Specialty).values(name=HOSTILE))
    database.close()
    assert program("night").code == 0
    assert program("esr", "generate").code == 0
    exported = program("esr", "export", "--all")
    assert exported.code == 0, exported.err


def test_every_list_shows_hostile_values_as_they_are(program: Program, hostile: None) -> None:
    file = max(program("esr", "files", "--json").json, key=lambda file: file["records"])
    assert file["records"] > 0
    placement = program("esr", "records", "--json").json[0]["placement_id"]
    for command in (
        ("search", "persons"), ("search", "posts"), ("esr", "records"), ("esr", "at-risk"),
        ("esr", "explain", str(placement)), ("esr", "file", file["name"]), ("status",),
        ("history",), ("esr", "dead", "list"), ("doctor",), ("verify",),
        ("run", "PersonElasticSearchSyncJob", "--dry-run"),
    ):  # fmt: skip
        table, as_json = program(*command), program(*command, "--json")
        for result in (table, as_json):
            assert "Traceback" not in result.err
            assert "Unexpected" not in result.err, (command, result.err)
            assert not DANGEROUS & set(result.out + result.err), command
        assert as_json.json is not None
    found = program("search", "persons", "--limit", "100").out
    assert "\\x1b[2J\\x9b1m" in found
    assert "[red]x[/red]" in found
    assert f"O{MARKUP}" in program("esr", "file", file["name"]).out
    documents = program("search", "persons", "--json").json["documents"]
    assert {document["siteCode"] for document in documents} <= {HOSTILE, None}
    assert any(document["surname"] == HOSTILE for document in documents)


def test_control_characters_are_shown_as_escapes_and_everything_else_stays() -> None:
    assert printable("a\x1b[2J\r\n\x00\x7f\x85\u2028\u200b") == (
        "a\\x1b[2J\\r\\n\\x00\\x7f\\x85\\u2028\\u200b"
    )
    for text in ("Siân O'Brien-\u0141ukasz", "𠮷", "a\u00a0b", "back\\slash", "[/]", ""):
        assert printable(text) == text
    assert printable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_log_line_is_one_line_without_control_characters(
    tmp_path: Path, log_format: LogFormat
) -> None:
    stream = io.StringIO()
    logs.configure(Settings(home=tmp_path, log_format=log_format), stream=stream)
    logs.get().warning(f"event {CONTROLS}", reason=CONTROLS, at=datetime(2026, 3, 2))  # noqa: DTZ001
    try:
        raise RuntimeError(CONTROLS)
    except RuntimeError as error:
        logs.report("failed", error)
    lines = stream.getvalue()
    assert not DANGEROUS & set(lines)
    assert len(lines.splitlines()) < 12


def test_only_one_module_of_the_command_line_prints() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path
            if isinstance(node, ast.ImportFrom | ast.Import):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert not str(module).startswith("rich"), path


def test_wrong_arguments_with_markup_are_quoted(program: Program) -> None:
    for arguments in (("esr", "explain", HOSTILE), ("show", HOSTILE), (HOSTILE,), ("run", HOSTILE),
                      ("history", "--limit", HOSTILE)):  # fmt: skip
        result = program(*arguments)
        assert result.code == 2, arguments
        assert "Traceback" not in result.err
        assert not DANGEROUS & set(result.err + result.out), arguments
