"""Flat files: what is written is what is read; a bad line costs one line."""

import random
import unicodedata
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import LINE_END, field_values, parse, render, unfit
from tis_sync.esr.files.layout import Field, Layout
from tis_sync.settings.model import Settings

LAYOUTS = {name: layout_of(name, Settings()) for name in (FileType.APP, FileType.DNC)}
HARD = st.sampled_from("\"\\,\r\n'; \té漢𠮷𝄞AP")


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    characters = HARD | st.characters(exclude_categories=["Cs"])
    return st.text(characters, min_size=least, max_size=min(most, 60)) | (
        st.just("x" * most) if most else st.just("x")
    )


def values(field: Field) -> st.SearchStrategy[str | None]:
    """Every value that a field can have."""
    whole = field.size - field.decimals
    numbers = st.integers(0, 10**whole - 1).map(str)
    if field.decimals:
        numbers = st.tuples(numbers, st.integers(0, 10**field.decimals - 1)).map(
            lambda n: f"{n[0]}.{str(n[1]).zfill(field.decimals)}"
        )
    kinds: dict[str, st.SearchStrategy[str]] = {
        "X": texts(1, field.size),
        "F": st.text(HARD, min_size=field.size, max_size=field.size),
        "N": numbers,
        "L": st.integers(0, 10**whole - 1).map(lambda n: str(n).zfill(field.size)),
    }
    value: st.SearchStrategy[str | None] = kinds[field.kind]
    return value if field.mandatory else value | st.none()


def rows(layout: Layout) -> st.SearchStrategy[dict[str, str | None]]:
    return st.fixed_dictionaries({field.name: values(field) for field in layout.body.fields})


def frame(layout: Layout, records: list[dict[str, str | None]]) -> pl.DataFrame:
    names = [field.column for field in layout.body.fields]
    return pl.DataFrame(records, schema=dict.fromkeys(names, pl.String()))


def rendered(layout: Layout, records: list[dict[str, str | None]]) -> bytes:
    header = {"fileType": layout.file_type, "fileName": "DE_WES.DAT", "createdDate": "20260302",
              "createdTime": "140000", "deanery": "WES"}  # fmt: skip
    trailer = {"fileType": layout.file_type, "recordCount": str(len(records))}
    return render(layout, header, frame(layout, records), trailer)


@pytest.mark.parametrize("file_type", LAYOUTS)
@given(data=st.data())
@settings(max_examples=60)
def test_any_record_is_read_as_it_was_written(file_type: FileType, data: st.DataObject) -> None:
    layout = LAYOUTS[file_type]
    records = data.draw(st.lists(rows(layout), max_size=4))
    parsed = parse(layout, rendered(layout, records))
    assert parsed.bad == []
    assert parsed.records.drop("line").to_dicts() == records
    assert parsed.records.drop("line").equals(field_values(layout.body, frame(layout, records)))
    assert parsed.header is not None
    assert parsed.header["deanery"] == "WES"
    assert parsed.trailer == {"type": file_type, "recordCount": str(len(records))}


@given(rows(LAYOUTS[FileType.APP]))
@settings(max_examples=60)
def test_a_record_can_be_written_unless_a_value_contains_a_control_character(
    record: dict[str, str | None],
) -> None:
    rows = frame(LAYOUTS[FileType.APP], [record])
    reasons = rows.select(unfit(LAYOUTS[FileType.APP].body)).item().to_list()
    assert sorted(reason.partition(" ")[0] for reason in reasons) == sorted(
        name for name, value in record.items() if any(is_control(c) for c in value or "")
    )
    assert all(reason.endswith(" contains a control character") for reason in reasons)


def is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Zl", "Zp"}


def test_a_backslash_before_a_closing_quote_is_data() -> None:
    layout = LAYOUTS[FileType.APP]
    record = plain(layout) | {"lastName": "O'Neill\\", "address1": 'The "Old" House\\'}
    data = rendered(layout, [record])
    assert b'"O\'Neill\\","' in data
    assert b'"The ""Old"" House\\"' in data
    assert parse(layout, data).records.drop("line").to_dicts() == [record]


def plain(layout: Layout, number: int = 0) -> dict[str, Any]:
    """A record with something in every field."""
    text = {"X": f"é{number}"[: 1 + number % 2], "N": "1", "L": "0", "F": "0"}
    return {
        f.name: text[f.kind].zfill(f.size) if f.kind in "LF" else text[f.kind]
        for f in layout.body.fields
    }


def test_ten_thousand_mangled_lines_cost_only_those_lines() -> None:
    layout, chance = LAYOUTS[FileType.APP], random.Random(5)
    records = [plain(layout, n) | {"lastName": f"line\r\nbreak {n}"} for n in range(1, 20_001)]
    lines_before = rendered(layout, records).decode().split(f"{LINE_END}APP,")
    header, lines = lines_before[0], [f"APP,{line}" for line in lines_before[1:]]
    lines[-1], trailer = lines[-1].split(f"{LINE_END}TRL", 1)
    mangled = set(chance.sample(range(len(lines)), 10_000))
    for at in mangled:
        lines[at] = mangle(lines[at].replace("\r\n", " "), chance)
    parsed = parse(
        layout, LINE_END.join([header, *lines, f"TRL{trailer}"]).encode("utf-8", "surrogateescape")
    )
    kept = [record for at, record in enumerate(records) if at not in mangled]
    assert parsed.records.drop("line").to_dicts() == kept
    assert len(parsed.bad) == 10_000
    assert parsed.trailer is not None


def mangle(line: str, chance: random.Random) -> str:
    """A line as a careless program might mangle it."""
    ways: list[Callable[[], str]] = [
        lambda: line[: len(line) // 2],
        lambda: line.replace('"', "", 1),
        lambda: line + ",",
        lambda: line.replace(",", ";"),
        lambda: line.replace("APP", "XPP", 1),
        lambda: line.replace("é", "\udce9"),
        lambda: '"' + line,
        lambda: line.replace('"line', 'line"'),
        lambda: "",
    ]
    return chance.choice(ways)()
