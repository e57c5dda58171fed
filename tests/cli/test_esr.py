"""The commands of the export to ESR, in the order of use; wrong input gets one clear line."""

import re
import sys
from io import StringIO
from pathlib import Path

import pytest

from tests.cli.conftest import Program, Result
from tests.cli.test_wrong_input import expect_one_line
from tests.conftest import TODAY
from tis_sync.esr.deaneries import DEANERIES

USAGE, FAILED = 2, 1
ONE_RETRY = {"esr_retry_seconds": "[0.1]"}


@pytest.fixture
def data(program: Program) -> Result:
    """A small synthetic TCS on which nothing has run."""
    result = program("demo", "--people", "600", "--data-only")
    assert result.code == 0, result.err
    return result


def test_records_are_generated_exported_and_explained(program: Program, data: Result) -> None:
    generated = program("esr", "generate")
    assert re.match(r"\d+ records: \d+ new, 0 changed, 0 no longer eligible; [1-9]", generated.out)
    again = program("esr", "generate", "--json").json
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    unsent = program("esr", "records", "--state", "to_export", "--limit", "1000", "--json").json
    assert len(unsent) == again["eligible"] - again["invalid"]
    dry = program("esr", "export", "WES", "--dry-run")
    assert "Nothing was written" in dry.out
    assert program("esr", "files").out.count(".DAT") == 0
    exported = program("esr", "export", "--all", "--json")
    assert exported.code == 0, exported.err
    names = {one["command"]["deanery"]: one["file"]["name"] for one in exported.json}
    assert list(names) == list(DEANERIES)
    listed = program("esr", "files", "--date", str(TODAY), "--type", "app", "--json").json
    assert {file["name"] for file in listed} == set(names.values())
    assert sum(file["records"] for file in listed) == len(unsent)
    sent_again = program("esr", "export", "WES")
    assert names["WES"] in sent_again.out
    table = program("esr", "file", names["WES"])
    assert "deanery WES" in table.out
    assert "lastName" in table.out
    beyond = program("esr", "file", names["WES"], "--line", "9999")
    assert (beyond.code, "no record in line 9999" in beyond.err) == (2, True)
    only = program("esr", "file", names["WES"], "--line", "2", "--json").json
    assert [record["line"] for record in only["records"]] == [2]
    line = program("esr", "file", names["WES"], "--line", "2")
    assert re.search(r"postcode +[A-Z]", line.out)
    first = unsent[0]["placement_id"]
    explanation = program("esr", "explain", str(first))
    assert "EXPORTED: in DE_" in explanation.out
    assert "Reported to TCS: EXPORTED" in explanation.out
    assert program("esr", "explain", str(first), "--json").json["placement"] == first
    assert "TCS has no placement with this id" in program("esr", "explain", "999999999").out
    assert "Nobody is at risk" in program("esr", "at-risk").out
    assert program("esr", "dead", "list", "--json").json == {"commands": [], "dead_letters": []}
    assert "In total 0 dead commands, 0 dead letters." in program("esr", "dead", "list").out
    channels = program("esr", "contract", broker_names='{"esr.dlq": "dead"}').json["channels"]
    assert {"esr.queue.appfile.command", "esr.file.generated"} <= set(channels)


def test_the_demo_ends_with_thirteen_files_of_each_type_and_an_explanation(
    program: Program,
) -> None:
    result = program("demo", "--people", "600")
    assert result.code == 0, result.err
    assert "13 APP files with" in result.out
    assert "13 DNC files with" in result.out
    assert "is not a UK postcode" in result.out
    assert "Next: correct the data in TIS" in result.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("export", "XXX"), ("Unknown deanery 'XXX'", "EMD, KSS")),
        (("export",), ("Name deaneries", "--all")),
        (("export", "WES", "--type", "x"), ("Unknown file type 'x'", "app, notification")),
        (("export", "WES", "--date", "2026-03-03"), ("is in the future", "2026-03-02")),
        (("export", "WES", "--date", "1.3.2026"), ("'1.3.2026' is not a date", "YYYY-MM-DD")),
        (("export", "WES", "--date", "20260301"), ("'20260301' is not a date", "YYYY-MM-DD")),
        (("export", "WES", "--date", "0020-11-25"), ("'0020-11-25' is not a date",)),
        (("files", "--date", "20260301"), ("'20260301' is not a date", "YYYY-MM-DD")),
        (
            ("export", "WES", "--date", "1970-01-01", "--yes"),
            ("1970-01-01 is too long ago", "2026-01-30", "TIS_SYNC_ESR_EXPORT_DAYS"),
        ),
        (("export", "WES", "--date", "1970-01-01", "--dry-run"), ("is too long ago",)),
        (
            ("export", "WES", "--date", "2026-03-01"),
            ("exports 9 records into files for 2026-03-01", "today is 2026-03-02", "--yes"),
        ),
        (("records", "--state", "unknown"), ("Unknown state 'unknown'", "TO_EXPORT")),
        (("file", "none.DAT"), ("no file 'none.DAT'", "esr files")),
        (
            ("dead", "retry", "abc"),
            ("No command has an id that begins with 'abc'", "esr dead list"),
        ),
        (("dead", "retry"), ("Name commands", "--all")),
    ],
)
def test_wrong_input_gets_one_line(
    program: Program, data: Result, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    expect_one_line(program("esr", *arguments), USAGE, *parts)


def test_an_export_for_another_day_is_previewed_and_confirmed(
    program: Program, data: Result
) -> None:
    program("esr", "generate")
    arguments = ("esr", "export", "WES", "LDN", "--date", "2026-03-01")
    preview = program(*arguments, "--dry-run", "--json").json
    count = sum(file["records"] for file in preview)
    assert [file["deanery"] for file in preview] == ["WES", "LDN"]
    assert count > 0
    expect_one_line(program(*arguments), USAGE, f"exports {count} records", "--dry-run", "--yes")
    assert program("esr", "files", "--json").json == []
    exported = program(*arguments, "--yes", "--json")
    assert exported.code == 0, exported.err
    assert sum(one["file"]["records"] for one in exported.json) == count
    again = program(*arguments, "--dry-run")
    assert again.out.count("sent again, unchanged") == 2


class Terminal(StringIO):
    """Standard input with a person who types an answer."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_preview_is_shown_and_a_person_is_asked(
    program: Program, data: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("esr", "export", "WES", "--date", "2026-03-01")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = program(*arguments)
    assert "a new number" in refused.out
    asked = r"exports ([1-9]\d*) records? into files for 2026-03-01; today is 2026-03-02"
    number = re.search(asked, refused.out)  # the records were refreshed for it
    assert number is not None
    assert refused.code == FAILED
    assert program("esr", "files", "--json").json == []
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    agreed = program(*arguments)
    assert agreed.code == 0, agreed.err
    (file,) = program("esr", "files", "--json").json
    assert (file["day"], file["records"]) == ("2026-03-01", int(number[1]))


def test_a_malformed_layout_is_reported_with_file_line_and_reason(
    program: Program, data: Result, tmp_path: Path
) -> None:
    (tmp_path / "app.toml").write_text('type = "APP"\n[[record]]\nname = "HDR"\n')
    result = program("esr", "generate", esr_layouts=str(tmp_path))
    expect_one_line(result, USAGE, "app.toml, line 3", "record type HDR has no fields")


def test_a_refused_export_succeeds_when_it_is_retried(
    program: Program, data: Result, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    url = f"file://{tmp_path}/file/out"
    result = program("esr", "export", "WES", export_url=url, **ONE_RETRY)
    assert result.code == FAILED
    assert "refuses access" in result.err
    assert "TIS_SYNC_EXPORT_URL" in result.err
    dead = program("esr", "dead", "list", "--json")
    assert "refuses access" in dead.out
    (tmp_path / "file").unlink()
    retried = program("esr", "dead", "retry", "--all", export_url=url)
    assert retried.code == 0, retried.err
    assert len(list((tmp_path / "file" / "out").glob("*.DAT"))) == 1


def test_an_unreachable_destination_is_retried_and_then_reported(
    program: Program, data: Result
) -> None:
    options = '{"host_key_fingerprint": "SHA256:' + "a" * 43 + '"}'
    result = program(
        "esr", "export", "WES", export_url="sftp://u@127.0.0.1:1/x", export_options=options,
        **ONE_RETRY,
    )  # fmt: skip
    assert result.code == FAILED
    assert "It is retried automatically." in result.err
    assert "does not answer" in result.err.splitlines()[-1]
