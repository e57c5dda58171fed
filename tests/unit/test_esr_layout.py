"""Layouts as data: a mistake is reported with its line and the reason."""

from pathlib import Path

import pytest

from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.layout import load_layout, parse_layout
from tis_sync.settings.model import Settings

COLUMNS = {"HDR": {"fileType"}, "TRL": {"recordCount"}, "*": {"lastName", "positionId"}}
VALID = """\
type = "APP"
[[record]]
name = "HDR"
fields = [{ name = "type", format = "F(3)", column = "fileType" }]
[[record]]
name = "APP"
fields = [
    { name = "lastName", format = "X(40)", mandatory = true },
    { name = "positionId", format = "N(15,2)" },
]
[[record]]
name = "TRL"
fields = [{ name = "recordCount", format = "L(8)" }]
"""


def test_a_layout_declares_formats_and_mandatory_fields() -> None:
    layout = parse_layout(VALID, "app.toml", FileType.APP, COLUMNS)
    name, position = layout.body.fields
    assert (name.kind, name.size, name.mandatory, name.column) == ("X", 40, True, "lastName")
    assert (position.format, position.decimals, position.mandatory) == ("N(15,2)", 2, False)
    assert layout.trailer.fields[0].format == "L(8)"
    assert layout.header.fields[0].column == "fileType"


@pytest.mark.parametrize("file_type", FileType)
def test_every_built_in_layout_is_valid(file_type: FileType) -> None:
    assert layout_of(file_type, Settings()).file_type == file_type


def test_both_types_of_notification_files_have_the_same_layout() -> None:
    changes, full = (layout_of(t, Settings()) for t in (FileType.DNC, FileType.DNF))
    assert changes.record_types() == full.record_types()


def test_an_applicant_has_six_mandatory_values() -> None:
    fields = layout_of(FileType.APP, Settings()).body.fields
    assert [f.name for f in fields if f.mandatory] == [
        "effectiveDate", "lastName", "firstName", "dob", "positionId", "positionNumber",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"X(40)"', '"Y(40)"', "line 8: APP.lastName: format 'Y(40)' is none of X(n)"),
        ('"X(40)"', '"X(0)"', "line 8: APP.lastName: format X(0) makes no sense"),
        ('"N(15,2)"', '"N(2,2)"', "line 9: APP.positionId: format N(2,2) makes no sense"),
        (', format = "X(40)"', "", "line 8: APP.lastName: format None is none of"),
        ("mandatory = true", 'mandatory = "yes"', "line 8: APP.lastName: mandatory is neither"),
        ("mandatory", "obligatory", "line 8: APP.lastName: unknown key 'obligatory'"),
        ("column =", "source =", "line 4: HDR.type: unknown key 'source'"),
        ('"positionId"', '"positionID"', "line 9: APP.positionID: there is no column 'positionID'"),
        ('"positionId"', '"lastName"', "line 8: APP.lastName is listed twice"),
        ('name = "HDR"', 'name = "HEA"', "line 4: HEA.type: there is no column 'fileType'"),
        (VALID[VALID.index('[[record]]\nname = "TRL"'):], "", "types are HDR, APP; expected HDR"),
        ('name = "APP"', 'name = "App"', "record type 'App' is not three capital letters"),
        ('type = "APP"', 'type = "DNC"', "line 1: type is 'DNC', expected 'APP'"),
        ('type = "APP"', 'type = ["DNC", "DNF"]', "line 1: type is ['DNC', 'DNF'], expected"),
        ("[[record]]\nname = \"HDR\"", "[[record]\nname = \"HDR\"", "(at line 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(old: str, new: str, message: str) -> None:
    assert old in VALID
    with pytest.raises(UsageError) as caught:
        parse_layout(VALID.replace(old, new, 1), "app.toml", FileType.APP, COLUMNS)
    assert str(caught.value).startswith("app.toml")
    assert message in str(caught.value)


def test_a_site_can_replace_one_layout_and_keep_the_others(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(VALID)
    own = load_layout(FileType.APP, tmp_path, COLUMNS)
    assert len(own.body.fields) == 2
    built_in = layout_of(FileType.DNC, Settings(esr_layouts=tmp_path))
    assert built_in.body.name == "NOT"
    with pytest.raises(UsageError, match="no such folder"):
        load_layout(FileType.APP, tmp_path / "none", COLUMNS)


def test_a_notification_layout_applies_to_both_types(tmp_path: Path) -> None:
    text = VALID.replace('type = "APP"', 'type = ["DNC", "DNF"]').replace('"APP"', '"NOT"')
    (tmp_path / "notification.toml").write_text(text)
    for file_type in (FileType.DNC, FileType.DNF):
        assert len(load_layout(file_type, tmp_path, COLUMNS).body.fields) == 2
