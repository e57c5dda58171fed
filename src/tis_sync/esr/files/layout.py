"""Layouts: what a file to or from ESR looks like, as one TOML file for each kind of file.

A layout lists the record types of a file. A record type lists its fields in order, each with a
format and the column that contains its value:

| format | meaning | on the line |
|---|---|---|
| X(n) | text of at most n characters | in double quotes, inner quotes doubled |
| F(n) | text of exactly n characters | the same |
| N(n) | whole number of at most n digits | bare |
| N(n,m) | number of at most n digits, m of them after the point | bare |
| L(n) | whole number, left-padded with zeros to n digits | bare |
| L(n,m) | the same with m decimals, n digits in all | bare |

A line is the record type followed by the fields, separated by commas. An empty value is written as
nothing. A backslash is data, never an escape. Dates are written YYYYMMDD, as F(8).
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

from tis_sync.errors import UsageError
from tis_sync.esr.deaneries import FileType

FORMAT = re.compile(r"([XFNL])\((\d+)(?:,(\d+))?\)")
HEADER, TRAILER = "HDR", "TRL"
SETTING = "TIS_SYNC_ESR_LAYOUTS"
FILE_OF_TYPE: Mapping[FileType, str] = {
    FileType.APP: "app.toml",
    FileType.DNC: "notification.toml",
    FileType.DNF: "notification.toml",
}


class Format(StrEnum):
    """The kinds of formats."""

    TEXT = "X"  # text of at most n characters
    FIXED = "F"  # text of exactly n characters
    NUMBER = "N"  # number of at most n digits
    PADDED = "L"  # number, left-padded with zeros


@dataclass(frozen=True)
class Field:
    """One field of a line.

    Attributes:
        name: ESR's name for it; unique in its record type.
        kind: the kind of its format.
        size: the number of characters, or of digits in all.
        decimals: how many of the digits come after the point.
        mandatory: a record without a value is invalid.
        column: the column that contains its value.

    """

    name: str
    kind: Format
    size: int
    decimals: int
    mandatory: bool
    column: str

    @property
    def is_text(self) -> bool:
        """Whether the value is in quotes."""
        return self.kind in {Format.TEXT, Format.FIXED}

    @property
    def format(self) -> str:
        """The notation of the format."""
        return f"{self.kind}({self.size}{f',{self.decimals}' if self.decimals else ''})"


@dataclass(frozen=True)
class RecordType:
    """One kind of line: the name with which each line begins, and the fields in order."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Layout:
    """The layout of a file type: a header, one line for each record, a trailer."""

    file_type: FileType
    header: RecordType
    body: RecordType
    trailer: RecordType

    def record_types(self) -> Mapping[str, RecordType]:
        """The record types, by name."""
        return {r.name: r for r in (self.header, self.body, self.trailer)}


def load_layout(
    file_type: FileType, folder: Path | None, columns: Mapping[str, set[str]]
) -> Layout:
    """Read the layout of a file type: the site's own if there is one, else the built-in one.

    Args:
        file_type: the file type.
        folder: the folder of the site's layouts, `app.toml` and `notification.toml`. None: there
            are none.
        columns: the columns that a field can take its value from, by record type: `HDR`, `TRL`,
            and `*` for the body.

    Raises:
        UsageError: the layout is invalid; the message names file, line and reason.

    """
    name = FILE_OF_TYPE[file_type]
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{SETTING}={folder}: there is no such folder.")
    own = None if folder is None else folder / name
    if own is not None and own.exists():
        return parse_layout(own.read_text("utf-8"), str(own), file_type, columns)
    text = (files("tis_sync.esr.files") / "layouts" / name).read_text("utf-8")
    return parse_layout(text, name, file_type, columns)


def parse_layout(
    text: str, file: str, file_type: FileType, columns: Mapping[str, set[str]]
) -> Layout:
    """Read a layout from TOML.

    Args:
        text: the TOML.
        file: the name of the file, for messages.
        file_type: the file type that the layout must be for.
        columns: as for `load_layout`.

    Raises:
        UsageError: the layout is invalid; the message names file, line and reason.

    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}.") from None
    reader = _Reader(text, file, columns)
    declared = data.get("type")
    if file_type not in (declared if isinstance(declared, list) else [declared]):
        raise reader.error("type", f"type is {declared!r}, expected {file_type.value!r}")
    records = data.get("record")
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise reader.error("record", "[[record]] tables are missing")
    types = [reader.record_type(r) for r in records]
    names = [r.name for r in types]
    if len(types) != 3 or names[0] != HEADER or names[2] != TRAILER:
        raise reader.error(
            "record",
            f"the record types are {', '.join(names)}; expected HDR, one for the body, and TRL",
        )
    return Layout(file_type, *types)


class _Reader:
    """Turns TOML tables into a layout, and finds the line of each mistake."""

    def __init__(self, text: str, file: str, columns: Mapping[str, set[str]]) -> None:
        self._lines = text.splitlines()
        self._file = file
        self._columns = columns

    def error(self, needle: str, reason: str, after: int = 0) -> UsageError:
        """Return an error about the first line after `after` that contains `needle`."""
        line = next((n for n, t in enumerate(self._lines, 1) if n > after and needle in t), 1)
        return UsageError(f"{self._file}, line {line}: {reason}.")

    def record_type(self, data: dict[str, Any]) -> RecordType:
        """Read one `[[record]]` table."""
        name, fields = data.get("name"), data.get("fields")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Z]{3}", name):
            raise self.error("[[record]]", f"record type {name!r} is not three capital letters")
        start = next((n for n, t in enumerate(self._lines) if f'"{name}"' in t), 0)
        if not isinstance(fields, list) or not fields:
            raise self.error(f'"{name}"', f"record type {name} has no fields")
        parsed = tuple(self._field(name, field, start) for field in fields)
        names = [field.name for field in parsed]
        for repeated in {n for n in names if names.count(n) > 1}:
            raise self.error(f'"{repeated}"', f"{name}.{repeated} is listed twice", start)
        return RecordType(name, parsed)

    def _field(self, record: str, data: Any, start: int) -> Field:
        known = {"name", "format", "mandatory", "column"}
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise self.error("fields", f"a field of {record} has no name", start)
        name = data["name"]
        needle = f'"{name}"'
        for key in set(data) - known:
            raise self.error(needle, f"{record}.{name}: unknown key {key!r}", start)
        match = FORMAT.fullmatch(str(data.get("format", "")))
        if match is None:
            raise self.error(
                needle,
                f"{record}.{name}: format {data.get('format')!r} is none of "
                "X(n), F(n), N(n), N(n,m), L(n), L(n,m)",
                start,
            )
        kind, size, decimals = Format(match[1]), int(match[2]), int(match[3] or 0)
        is_text = kind in {Format.TEXT, Format.FIXED}
        if not size or decimals >= size or (decimals and is_text):
            raise self.error(
                needle, f"{record}.{name}: format {data['format']} makes no sense", start
            )
        column = data.get("column", name)
        allowed = self._columns.get(record, self._columns["*"])
        if column not in allowed:
            raise self.error(
                needle,
                f"{record}.{name}: there is no column {column!r}; "
                f"the columns are {', '.join(sorted(allowed))}",
                start,
            )
        mandatory = data.get("mandatory", False)
        if not isinstance(mandatory, bool):
            raise self.error(needle, f"{record}.{name}: mandatory is neither true nor false", start)
        return Field(name, kind, size, decimals, mandatory, column)
