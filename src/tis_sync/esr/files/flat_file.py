"""Flat files: records to lines and back, by a layout. Every value is text; None is no value.

`render` and `parse` are inverses: numbers come back as the digits on the line. A line that does not
fit its layout is reported with its number and the reason; the other lines are read.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from tis_sync.esr.files.layout import Field, Format, Layout, RecordType
from tis_sync.text import printable

LINE_END = "\r\n"
CREATED_DATE, CREATED_TIME = "%Y%m%d", "%H%M%S"
# One value on a line: in quotes (inner quotes are doubled), or bare. The quantifiers are
# possessive, so no line can cause backtracking.
VALUE = r'(?:"((?:[^"]|"")*+)"|([^",\r\n]*+))'
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A carriage return or a line feed would begin a line of its own; others act on a reader's screen.
CONTROL = r"[\p{Cc}\x{2028}\x{2029}]"
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
LONGEST_VALUE = 60  # characters of a value that a reason quotes
LONGEST_LINE = 80  # characters of a bad line that are kept


@dataclass(frozen=True)
class BadLine:
    """A line that could not be read.

    Attributes:
        number: its number in the file, from 1.
        text: how it begins.
        reason: why it could not be read.

    """

    number: int
    text: str
    reason: str


@dataclass(frozen=True)
class ParsedFile:
    """What a file contains.

    Attributes:
        header, trailer: their values by field name; None if the line is missing or bad.
        records: one row for each record: `line` (its number in the file, from 1), and one text
            column for each field.
        bad: the lines that could not be read.

    """

    header: dict[str, str | None] | None
    records: pl.DataFrame
    trailer: dict[str, str | None] | None
    bad: list[BadLine]


def render(
    layout: Layout,
    header: Mapping[str, str],
    records: pl.DataFrame,
    trailer: Mapping[str, str],
) -> bytes:
    """Render the bytes of a file.

    Args:
        layout: the layout of the file.
        header: the values of the header, by column.
        records: one row for each record, in the order of the file, with one text column for each
            column of the layout. The values must fit the layout (see `unfit`).
        trailer: the values of the trailer, by column.

    """
    parts = [
        render_lines(layout.header, pl.DataFrame([dict(header)])),
        render_lines(layout.body, records),
        render_lines(layout.trailer, pl.DataFrame([dict(trailer)])),
    ]
    return (LINE_END.join(pl.concat(parts)) + LINE_END).encode()


def render_lines(record: RecordType, rows: pl.DataFrame) -> pl.Series:
    """Render the lines of records of one type; arguments as for `render`."""
    values = [_quoted(field) for field in record.fields]
    line = pl.concat_str(pl.lit(record.name), *values, separator=",")
    return field_values(record, rows).select(line.cast(pl.String).alias("line"))["line"]


def field_values(record: RecordType, rows: pl.DataFrame) -> pl.DataFrame:
    """The values that `parse` reads from what `render` writes: one text column per field."""
    return rows.select(_value(field).alias(field.name) for field in record.fields)


def _value(field: Field) -> pl.Expr:
    value = pl.col(field.column).cast(pl.String)
    if field.kind == Format.PADDED:
        # With decimals, the point takes one character more.
        value = value.str.zfill(field.size + (1 if field.decimals else 0))
    return pl.when(value != "").then(value)


def _quoted(field: Field) -> pl.Expr:
    value = pl.col(field.name)
    if field.is_text:
        value = pl.lit('"') + value.str.replace_all('"', '""', literal=True) + pl.lit('"')
    return value.fill_null("").alias(f"{field.name} quoted")


def unfit(record: RecordType) -> pl.Expr:
    """The reasons why a record cannot be written to a file: a list of texts, empty if it can.

    Args:
        record: the record type; the frame has its columns.

    """
    reasons: list[pl.Expr] = []
    for field in record.fields:
        value = pl.col(field.column).cast(pl.String)
        empty = value.is_null() | (value == "")
        if field.mandatory:
            reasons.append(pl.when(empty).then(pl.lit(f"{field.name} is missing")))
        start = pl.lit(f"{field.name} '") + quoted(value) + pl.lit("' ")
        for wrong, reason in _misfits(field, value):
            reasons.append(pl.when(~empty & wrong).then(start + pl.lit(reason)))
    return pl.concat_list(reasons).list.drop_nulls()


def quoted(value: pl.Expr) -> pl.Expr:
    """How a value begins, for a reason; escapes stand for control characters."""
    escapes = [printable(control) for control in CONTROLS]
    return value.str.slice(0, LONGEST_VALUE).str.replace_many(CONTROLS, escapes)


def has_control(value: pl.Expr) -> pl.Expr:
    """Whether a text contains a control character, which no file may contain."""
    return value.str.contains(CONTROL)


def _misfits(field: Field, value: pl.Expr) -> Iterator[tuple[pl.Expr, str]]:
    """The ways in which a value can fail to fit its format: a condition and the reason."""
    if field.is_text:
        yield has_control(value), "contains a control character"
    if field.kind == Format.TEXT:
        yield value.str.len_chars() > field.size, f"is longer than {field.size} characters"
    elif field.kind == Format.FIXED:
        yield value.str.len_chars() != field.size, f"does not have {field.size} characters"
    else:
        whole, decimals = field.size - field.decimals, field.decimals
        fraction = rf"(\.\d{{1,{decimals}}})?" if decimals else ""
        sign = "-?" if field.kind == Format.NUMBER else ""
        yield (
            ~value.str.contains(rf"\A{sign}\d{{1,{whole}}}{fraction}\z"),
            f"is not a number of the form {field.format}",
        )


def parse(layout: Layout, data: bytes) -> ParsedFile:
    """Read a file.

    A text may contain line breaks, so a line with an odd number of quotes is read together with
    the following lines, up to the next odd one. If the result is not a record either, only the
    first line is bad, and reading continues with the one after it.

    Args:
        layout: the layout of the file.
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
            values, reason = _parse_line(types[name], patterns[name], line)
        elif name not in types:
            reason = f"it begins with none of {', '.join(types)}"
        if values is None:
            bad.append(BadLine(at + 1, physical[at][:LONGEST_LINE], reason))
            at += 1
            continue
        rows[name].append({"line": str(at + 1), **values})
        at = (end or at) + 1
    return _parsed(layout, rows, bad)


def _parsed(
    layout: Layout, rows: Mapping[str, list[dict[str, str | None]]], bad: list[BadLine]
) -> ParsedFile:
    names = ["line", *(field.name for field in layout.body.fields)]
    records = pl.DataFrame(rows[layout.body.name], schema=dict.fromkeys(names, pl.String()))
    ends: list[dict[str, str | None] | None] = []
    for record in (layout.header, layout.trailer):
        lines = rows[record.name]
        ends.append({k: v for k, v in lines[0].items() if k != "line"} if lines else None)
    return ParsedFile(ends[0], records.with_columns(pl.col("line").cast(pl.Int64)), ends[1], bad)


def _next_true(flags: list[bool]) -> list[int | None]:
    """For each position, the first true position at or after it."""
    following: list[int | None] = [None] * (len(flags) + 1)
    for at in range(len(flags) - 1, -1, -1):
        following[at] = at if flags[at] else following[at + 1]
    return following


def _pattern(record: RecordType) -> re.Pattern[str]:
    return re.compile(re.escape(record.name) + f",{VALUE}" * len(record.fields), re.DOTALL)


def _parse_line(
    record: RecordType, pattern: re.Pattern[str], line: str
) -> tuple[dict[str, str | None] | None, str]:
    """The values of a line, or None and the reason why it cannot be read."""
    match = pattern.fullmatch(line)
    if match is None:
        return None, (
            f"it is not {record.name} followed by {len(record.fields)} comma-separated values"
        )
    try:
        line.encode()
    except UnicodeEncodeError:
        return None, "it is not UTF-8"
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
    """Why a value is not valid for its field; None if it is."""
    if value is None:
        return f"{field.name} is missing" if field.mandatory else None
    if quoted != field.is_text:
        return f"{field.name} is {'' if quoted else 'not '}in quotes"
    length = len(value)
    if field.kind == Format.TEXT and length > field.size:
        return f"{field.name} is longer than {field.size} characters"
    if field.kind == Format.FIXED and length != field.size:
        return f"{field.name} does not have {field.size} characters"
    if not field.is_text:
        digits = length - (1 if "." in value else 0) - value.startswith("-")
        is_padded = field.kind == Format.PADDED
        fits = digits == field.size if is_padded else digits <= field.size
        if NUMBER.fullmatch(value) is None or not fits:
            return f"{field.name} {value!r} is not a number of the form {field.format}"
    return None
