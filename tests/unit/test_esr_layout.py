"""Layouts as data: what does not fit is told with its line and reason."""

from pathlib import Path

import pytest

from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import APP, FILE_TYPES
from tis_sync.esr.layout import load_layout, parse_layout
from tis_sync.esr.sources import layout_of
from tis_sync.settings import Settings

SOURCES = {"HDR": {"fileType"}, "TRL": {"recordCount"}, "*": {"lastName", "positionId"}}
GOOD = """\
type = "APP"
[[record]]
name = "HDR"
fields = [{ name = "type", format = "F(3)", source = "fileType" }]
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


def test_a_layout_says_formats_and_what_is_mandatory() -> None:
    layout = parse_layout(GOOD, "app.toml", APP, SOURCES)
    name, position = layout.body.fields
    assert (name.kind, name.size, name.mandatory, name.source) == ("X", 40, True, "lastName")
    assert (position.format, position.decimals, position.mandatory) == ("N(15,2)", 2, False)
    assert layout.trailer.fields[0].format == "L(8)"


@pytest.mark.parametrize("file_type", FILE_TYPES.values())
def test_every_layout_of_ours_is_right(file_type: str) -> None:
    assert layout_of(file_type, Settings()).file_type == file_type


def test_the_six_mandatory_values_of_an_applicant() -> None:
    fields = layout_of(APP, Settings()).body.fields
    assert [f.name for f in fields if f.mandatory] == [
        "effectiveDate", "lastName", "firstName", "dob", "positionId", "positionNumber",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"X(40)"', '"Y(40)"', "line 8: APP.lastName: format 'Y(40)' is none of X(n)"),
        ('"X(40)"', '"X(0)"', "line 8: APP.lastName: format X(0) has no sense"),
        ('"N(15,2)"', '"N(2,2)"', "line 9: APP.positionId: format N(2,2) has no sense"),
        (', format = "X(40)"', "", "line 8: APP.lastName: format None is none of"),
        ("mandatory = true", 'mandatory = "yes"', "line 8: APP.lastName: mandatory is neither"),
        ("mandatory", "obligatory", "line 8: APP.lastName: unknown key 'obligatory'"),
        ('"positionId"', '"positionID"', "line 9: APP.positionID: there is no source 'positionID'"),
        ('"positionId"', '"lastName"', "line 8: APP.lastName stands there twice"),
        ('name = "HDR"', 'name = "HEA"', "line 4: HEA.type: there is no source 'fileType'"),
        (GOOD[GOOD.index('[[record]]\nname = "TRL"'):], "", "record types are HDR, APP; wanted"),
        ('name = "APP"', 'name = "App"', "name 'App' of a record type is not three capitals"),
        ('type = "APP"', 'type = "DNC"', "line 1: type is 'DNC', wanted is 'APP'"),
        ("[[record]]\nname = \"HDR\"", "[[record]\nname = \"HDR\"", "(at line 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError) as told:
        parse_layout(GOOD.replace(old, new, 1), "app.toml", APP, SOURCES)
    assert str(told.value).startswith("app.toml")
    assert said in str(told.value)


def test_a_site_replaces_a_layout_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(GOOD)
    own = load_layout(APP, tmp_path, SOURCES)
    assert len(own.body.fields) == 2
    assert layout_of("DNC", Settings(esr_layouts=tmp_path)).body.name == "NOT"
    with pytest.raises(UsageError, match="no such folder"):
        load_layout(APP, tmp_path / "none", SOURCES)
