"""Records to lines and back, by a layout. Values are text throughout; None is no value.

What one writes, the other reads: numbers and padded numbers come back as the digits on the line. A
line that does not fit its layout is told with its number and reason, and costs just itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from tis_sync.esr.layout import Field, Layout, RecordType

LINE_END = "\r\n"
CREATED_DATE, CREATED_TIME = "%Y%m%d", "%H%M%S"
# One value on a line: quoted (a quote inside doubled), or bare. Possessive: nothing to try twice.
VALUE = r'(?:"((?:[^"]|"")*+)"|([^",\r\n]*+))'
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class BadLine:
    """A line that could not be read: its number in the file, how it begins, and why not."""

    number: int
    text: str
    reason: str


@dataclass(frozen=True)
class Parsed:
    """What a file says.

    Attributes:
        header, trailer: their values by field name; None where the line is missing or bad.
        body: a row a record: `line` (its number in the file), and a text column a field.
        bad: the lines that could not be read.

    """

    header: dict[str, str | None] | None
    body: pl.DataFrame
    trailer: dict[str, str | None] | None
    bad: list[BadLine]


def render(
    layout: Layout,
    header: Mapping[str, str],
    body: pl.DataFrame,
    trailer: Mapping[str, str],
) -> bytes:
    """The bytes of a file.

    Args:
        layout: its form.
        header: values of the header, by source.
        body: a row a record, with a text column a source; in the order of the file. Values have
            to fit (`unfit`).
        trailer: values of the trailer, by source.

    """
    parts = [
        _lines(layout.header, pl.DataFrame([dict(header)])),
        _lines(layout.body, body),
        _lines(layout.trailer, pl.DataFrame([dict(trailer)])),
    ]
    lines = pl.concat(parts)
    return (LINE_END.join(lines) + LINE_END).encode()


def _lines(record: RecordType, rows: pl.DataFrame) -> pl.Series:
    values = [_written(field) for field in record.fields]
    line = pl.concat_str(pl.lit(record.name), *values, separator=",")
    return rows.select(line.cast(pl.String).alias("line"))["line"]


def _written(field: Field) -> pl.Expr:
    value = pl.col(field.source).cast(pl.String)
    written: pl.Expr = value
    if field.is_text:
        quoted = pl.lit('"') + value.str.replace_all('"', '""', literal=True) + pl.lit('"')
        written = pl.when(value != "").then(quoted)
    elif field.kind == "L":
        # With decimals, the point takes a character more than there are digits.
        written = value.str.zfill(field.size + (1 if field.decimals else 0))
    return written.fill_null("").alias(f"{field.name} written")


def unfit(record: RecordType, label: Mapping[str, str] | None = None) -> pl.Expr:
    """The reasons why a record cannot stand in a file: a list of texts, empty where it can.

    Args:
        record: the record type.
        label: what people call a source, where it is not the field's name.

    """
    reasons: list[pl.Expr] = []
    for field in record.fields:
        name = (label or {}).get(field.source, field.name)
        value = pl.col(field.source).cast(pl.String)
        empty = value.is_null() | (value == "")
        if field.mandatory:
            reasons.append(pl.when(empty).then(pl.lit(f"{name} is missing")))
        shown = pl.lit(f"{name} '") + value.str.slice(0, 60) + pl.lit("' ")
        for wrong, reason in _misfits(field, value):
            reasons.append(pl.when(~empty & wrong).then(shown + pl.lit(reason)))
    return pl.concat_list(reasons).list.drop_nulls()


def _misfits(field: Field, value: pl.Expr) -> Iterator[tuple[pl.Expr, str]]:
    """When a value does not fit its format, and how to say so."""
    if field.kind == "X":
        yield value.str.len_chars() > field.size, f"is longer than {field.size}"
    elif field.kind == "F":
        yield value.str.len_chars() != field.size, f"has not {field.size} characters"
    else:
        whole, decimals = field.size - field.decimals, field.decimals
        fraction = rf"(\.\d{{1,{decimals}}})?" if decimals else ""
        sign = "-?" if field.kind == "N" else ""
        yield (
            ~value.str.contains(rf"\A{sign}\d{{1,{whole}}}{fraction}\z"),
            f"is not a number of the form {field.format}",
        )


def parse(layout: Layout, data: bytes) -> Parsed:
    """Read a file.

    A text may hold line breaks. A line with an odd number of quotes is therefore read together
    with those that follow, up to the next odd one; if that is no record either, the line alone is
    bad, and reading goes on behind it.

    Args:
        layout: its form.
        data: the bytes.

    """
    text = data.decode("utf-8", "surrogateescape")
    physical = text.split(LINE_END)
    if physical[-1] == "":
        physical.pop()
    types = layout.record_types()
    patterns = {name: _pattern(record) for name, record in types.items()}
    odd = [line.count('"') % 2 == 1 for line in physical]
    next_odd = _next_true(odd)
    rows: dict[str, list[dict[str, str | None]]] = {name: [] for name in types}
    bad: list[BadLine] = []
    at = 0
    while at < len(physical):
        end = at if not odd[at] else next_odd[at + 1]
        name = physical[at][:3]
        values, reason = None, "its quotes are not paired"
        if end is not None and name in types:
            line = LINE_END.join(physical[at : end + 1])
            values, reason = _values(types[name], patterns[name], line)
        elif name not in types:
            reason = f"begins with none of {', '.join(types)}"
        if values is None:
            bad.append(BadLine(at + 1, physical[at][:80], reason))
            at += 1
            continue
        rows[name].append({"line": str(at + 1), **values})
        at = (end or at) + 1
    return _parsed(layout, rows, bad)


def _parsed(
    layout: Layout, rows: Mapping[str, list[dict[str, str | None]]], bad: list[BadLine]
) -> Parsed:
    names = ["line", *(field.name for field in layout.body.fields)]
    body = pl.DataFrame(rows[layout.body.name], schema=dict.fromkeys(names, pl.String()))
    ends: list[dict[str, str | None] | None] = []
    for record in (layout.header, layout.trailer):
        found = rows[record.name]
        ends.append({k: v for k, v in found[0].items() if k != "line"} if found else None)
    return Parsed(ends[0], body.with_columns(pl.col("line").cast(pl.Int64)), ends[1], bad)


def _next_true(flags: list[bool]) -> list[int | None]:
    """For each position, the first at or behind it that is true."""
    found: list[int | None] = [None] * (len(flags) + 1)
    for at in range(len(flags) - 1, -1, -1):
        found[at] = at if flags[at] else found[at + 1]
    return found


def _pattern(record: RecordType) -> re.Pattern[str]:
    return re.compile(re.escape(record.name) + f",{VALUE}" * len(record.fields), re.DOTALL)


def _values(
    record: RecordType, pattern: re.Pattern[str], line: str
) -> tuple[dict[str, str | None] | None, str]:
    """The values of a line, or None and the reason why it is none."""
    match = pattern.fullmatch(line)
    if match is None:
        return None, f"is not {record.name} and {len(record.fields)} values parted by commas"
    try:
        line.encode()
    except UnicodeEncodeError:
        return None, "is not UTF-8"
    values: dict[str, str | None] = {}
    groups = match.groups()
    for index, field in enumerate(record.fields):
        quoted, bare = groups[2 * index], groups[2 * index + 1]
        value = quoted.replace('""', '"') if quoted is not None else bare or None
        reason = _misread(field, quoted is not None, value)
        if reason is not None:
            return None, reason
        values[field.name] = value
    return values, ""


def _misread(field: Field, quoted: bool, value: str | None) -> str | None:
    """Why a value that was read is not one of its field; None where it is."""
    if value is None:
        return f"{field.name} is missing" if field.mandatory else None
    if quoted != field.is_text:
        return f"{field.name} is {'' if quoted else 'not '}in quotes"
    length = len(value)
    if field.kind == "X" and length > field.size:
        return f"{field.name} is longer than {field.size}"
    if field.kind == "F" and length != field.size:
        return f"{field.name} has not {field.size} characters"
    if not field.is_text:
        digits = length - (1 if "." in value else 0) - value.startswith("-")
        fits = digits == field.size if field.kind == "L" else digits <= field.size
        if NUMBER.fullmatch(value) is None or not fits:
            return f"{field.name} {value!r} is not a number of the form {field.format}"
    return None
