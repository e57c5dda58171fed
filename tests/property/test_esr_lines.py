"""What is written into a file is what is read from it; a bad line costs one line."""

import random
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_sync.esr.deaneries import APP, DNC
from tis_sync.esr.layout import Field, Layout
from tis_sync.esr.lines import LINE_END, parse, render, unfit
from tis_sync.esr.sources import layout_of
from tis_sync.settings import Settings

LAYOUTS = {name: layout_of(name, Settings()) for name in (APP, DNC)}
HARD = st.sampled_from("\"\\,\r\n'; \té漢𠮷𝄞AP")


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    letters = HARD | st.characters(exclude_categories=["Cs"])
    return st.text(letters, min_size=least, max_size=min(most, 60)) | (
        st.just("x" * most) if most else st.just("x")
    )


def values(field: Field) -> st.SearchStrategy[str | None]:
    """Every value that a field can hold."""
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
    made: st.SearchStrategy[str | None] = kinds[field.kind]
    return made if field.mandatory else made | st.none()


def rows(layout: Layout) -> st.SearchStrategy[dict[str, str | None]]:
    return st.fixed_dictionaries({field.name: values(field) for field in layout.body.fields})


def written(layout: Layout, records: list[dict[str, str | None]]) -> bytes:
    names = [field.source for field in layout.body.fields]
    body = pl.DataFrame(records, schema=dict.fromkeys(names, pl.String()))
    header = {"fileType": layout.file_type, "fileName": "DE_WES.DAT", "createdDate": "20260302",
              "createdTime": "140000", "deanery": "WES"}  # fmt: skip
    trailer = {"fileType": layout.file_type, "recordCount": str(len(records))}
    return render(layout, header, body, trailer)


@pytest.mark.parametrize("file_type", LAYOUTS)
@given(data=st.data())
@settings(max_examples=60)
def test_any_record_written_and_read_gives_itself(file_type: str, data: st.DataObject) -> None:
    layout = LAYOUTS[file_type]
    records = data.draw(st.lists(rows(layout), max_size=4))
    said = parse(layout, written(layout, records))
    assert said.bad == []
    assert said.body.drop("line").to_dicts() == records
    assert said.header is not None
    assert said.header["deanery"] == "WES"
    assert said.trailer == {"type": file_type, "recordCount": str(len(records))}


@given(rows(LAYOUTS[APP]))
@settings(max_examples=60)
def test_a_record_of_fitting_values_has_no_reason_against_it(record: dict[str, str | None]) -> None:
    frame = pl.DataFrame([record], schema=dict.fromkeys(record, pl.String()))
    assert frame.select(unfit(LAYOUTS[APP].body)).item().to_list() == []


def test_a_backslash_before_a_closing_quote_is_data() -> None:
    layout = LAYOUTS[APP]
    record = plain(layout) | {"lastName": "O'Neill\\", "address1": 'The "Old" House\\'}
    data = written(layout, [record])
    assert b'"O\'Neill\\","' in data
    assert b'"The ""Old"" House\\"' in data
    assert parse(layout, data).body.drop("line").to_dicts() == [record]


def plain(layout: Layout, number: int = 0) -> dict[str, Any]:
    """A record with something in every field."""
    text = {"X": f"é{number}"[: 1 + number % 2], "N": "1", "L": "0", "F": "0"}
    return {
        f.name: text[f.kind].zfill(f.size) if f.kind in "LF" else text[f.kind]
        for f in layout.body.fields
    }


def test_ten_thousand_mangled_lines_cost_exactly_those_lines() -> None:
    layout, chance = LAYOUTS[APP], random.Random(5)
    records = [plain(layout, n) | {"lastName": f"line\r\nbreak {n}"} for n in range(1, 20_001)]
    good = written(layout, records).decode().split(f"{LINE_END}APP,")
    header, lines = good[0], [f"APP,{line}" for line in good[1:]]
    lines[-1], trailer = lines[-1].split(f"{LINE_END}TRL", 1)
    mangled = set(chance.sample(range(len(lines)), 10_000))
    for at in mangled:
        lines[at] = mangle(lines[at].replace("\r\n", " "), chance)
    said = parse(
        layout, LINE_END.join([header, *lines, f"TRL{trailer}"]).encode("utf-8", "surrogateescape")
    )
    kept = [record for at, record in enumerate(records) if at not in mangled]
    assert said.body.drop("line").to_dicts() == kept
    assert len(said.bad) == 10_000
    assert said.trailer is not None


def mangle(line: str, chance: random.Random) -> str:
    """The line as a careless program might leave it."""
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
