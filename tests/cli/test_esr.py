"""The commands of the export to ESR, as a user meets them; and wrong input, one clear line each."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, Program
from tests.cli.test_wrong_input import one_line
from tests.conftest import TODAY
from tis_sync.esr.deaneries import DEANERIES

USAGE, FAILED = 2, 1
HALF = {"esr_retry_seconds": "[0.1]"}


@pytest.fixture
def data(program: Program) -> Ended:
    """A small synthetic TCS, nothing run yet."""
    ended = program("demo", "--people", "600", "--data-only")
    assert ended.code == 0, ended.err
    return ended


def test_generate_look_export_and_explain(program: Program, data: Ended) -> None:
    made = program("esr", "generate")
    assert re.match(r"\d+ records: \d+ new, 0 changed, 0 no longer eligible; [1-9]", made.out)
    again = program("esr", "generate", "--json").json
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    waiting = program("esr", "records", "--state", "to_export", "--limit", "1000", "--json").json
    assert len(waiting) == again["eligible"] - again["invalid"]
    dry = program("esr", "export", "WES", "--dry-run")
    assert "Nothing was written" in dry.out
    assert program("esr", "files").out.count(".DAT") == 0
    done = program("esr", "export", "--all", "--json")
    assert done.code == 0, done.err
    names = {made["command"]["deanery"]: made["file"]["name"] for made in done.json}
    assert list(names) == list(DEANERIES)
    listed = program("esr", "files", "--date", str(TODAY), "--type", "app", "--json").json
    assert {file["name"] for file in listed} == set(names.values())
    assert sum(file["records"] for file in listed) == len(waiting)
    again_sent = program("esr", "export", "WES")
    assert names["WES"] in again_sent.out
    shown = program("esr", "file", names["WES"])
    assert "deanery WES" in shown.out
    assert "lastName" in shown.out
    whole = program("esr", "file", names["WES"], "--line", "2")
    assert re.search(r"postcode +[A-Z]", whole.out)
    first = waiting[0]["placement_id"]
    story = program("esr", "explain", str(first))
    assert "EXPORTED: in DE_" in story.out
    assert "TCS was told: EXPORTED" in story.out
    assert program("esr", "explain", str(first), "--json").json["placement"] == first
    assert "TCS has none of this number" in program("esr", "explain", "999999999").out
    assert "Nobody is at risk" in program("esr", "at-risk").out
    assert program("esr", "dead", "list", "--json").json == {"commands": [], "letters": []}
    assert "In all 0 dead commands, 0 dead letters." in program("esr", "dead", "list").out
    named = program("esr", "contract", broker_names='{"esr.dlq": "dead"}').json["channels"]
    assert {"esr.queue.appfile.command", "esr.file.generated"} <= set(named)


def test_the_demo_ends_with_thirteen_files_of_each_kind_and_a_story(program: Program) -> None:
    ended = program("demo", "--people", "600")
    assert ended.code == 0, ended.err
    assert "13 APP files with" in ended.out
    assert "13 DNC files with" in ended.out
    assert "is no UK postcode" in ended.out
    assert "Next: correct the data in TIS" in ended.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("export", "XXX"), ("Unknown deanery 'XXX'", "EMD, KSS")),
        (("export",), ("Name deaneries", "--all")),
        (("export", "WES", "--type", "x"), ("Unknown file type 'x'", "app, notification")),
        (("export", "WES", "--date", "2026-03-03"), ("lies in the future", "2026-03-02")),
        (("export", "WES", "--date", "1.3.2026"), ("'1.3.2026' is not a date", "YYYY-MM-DD")),
        (("records", "--state", "gone"), ("Unknown state 'gone'", "TO_EXPORT")),
        (("file", "none.DAT"), ("no file 'none.DAT'", "esr files")),
        (("dead", "retry", "abc"), ("No command begins with 'abc'", "esr dead list")),
        (("dead", "retry"), ("Name commands", "--all")),
    ],
)
def test_wrong_input_is_told_in_one_line(
    program: Program, data: Ended, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    one_line(program("esr", *arguments), USAGE, *parts)


def test_a_layout_that_is_wrong_is_told_with_file_line_and_reason(
    program: Program, data: Ended, tmp_path: Path
) -> None:
    (tmp_path / "app.toml").write_text('type = "APP"\n[[record]]\nname = "HDR"\n')
    ended = program("esr", "generate", esr_layouts=str(tmp_path))
    one_line(ended, USAGE, "app.toml, line 3", "record type HDR has no fields")


def test_a_destination_that_refuses_is_told_and_mended_by_one_command(
    program: Program, data: Ended, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    url = f"file://{tmp_path}/file/out"
    ended = program("esr", "export", "WES", export_url=url, **HALF)
    assert ended.code == FAILED
    assert "refuses us" in ended.err
    assert "TIS_SYNC_EXPORT_URL" in ended.err
    dead = program("esr", "dead", "list")
    assert "refuses us" in dead.out
    (tmp_path / "file").unlink()
    mended = program("esr", "dead", "retry", "--all", export_url=url)
    assert mended.code == 0, mended.err
    assert len(list((tmp_path / "file" / "out").glob("*.DAT"))) == 1


def test_a_server_that_is_away_is_tried_again_and_then_told(program: Program, data: Ended) -> None:
    ended = program("esr", "export", "WES", export_url="sftp://u@127.0.0.1:1/x", **HALF)
    assert ended.code == FAILED
    assert "Tried again by itself" in ended.err
    assert "does not answer" in ended.err.splitlines()[-1]
