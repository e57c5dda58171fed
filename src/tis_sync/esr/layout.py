"""What a file to or from ESR looks like: as data, one TOML file a file type.

A layout lists the record types of a file; a record type lists its fields in order, each with a
format and the source of its value:

| format | meaning | on the line |
|---|---|---|
| X(n) | text of at most n characters | in double quotes, a quote inside doubled |
| F(n) | text of exactly n characters | the same |
| N(n) | whole number of at most n digits | bare |
| N(n,m) | number of at most n digits, m of them decimals | bare |
| L(n) | whole number, padded with zeros on the left to n digits | bare |
| L(n,m) | the same with m decimals, n digits in all | bare |

A line is the record type and then the fields, parted by commas; an empty value is nothing. A
backslash is data, never an escape. Dates are written YYYYMMDD, as F(8).
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from tis_sync.errors import UsageError

FORMAT = re.compile(r"([XFNL])\((\d+)(?:,(\d+))?\)")
HEADER, TRAILER = "HDR", "TRL"
SETTING = "TIS_SYNC_ESR_LAYOUTS"
Kind = Literal["X", "F", "N", "L"]


@dataclass(frozen=True)
class Field:
    """One field of a line.

    Attributes:
        name: its name, as ESR has it; unique in its record type.
        kind: X, F, N or L.
        size: characters, or digits in all.
        decimals: of these digits.
        mandatory: a record without it is invalid.
        source: the column that holds its value.

    """

    name: str
    kind: Kind
    size: int
    decimals: int
    mandatory: bool
    source: str

    @property
    def is_text(self) -> bool:
        """Written in quotes."""
        return self.kind in {"X", "F"}

    @property
    def format(self) -> str:
        """The notation of its format."""
        return f"{self.kind}({self.size}{f',{self.decimals}' if self.decimals else ''})"


@dataclass(frozen=True)
class RecordType:
    """One kind of line: its name, which opens the line, and its fields in order."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Layout:
    """A file type: a header, one line a record, a trailer."""

    file_type: str
    header: RecordType
    body: RecordType
    trailer: RecordType

    def record_types(self) -> Mapping[str, RecordType]:
        """The record types by the name that opens their lines."""
        return {r.name: r for r in (self.header, self.body, self.trailer)}


def load_layout(file_type: str, folder: Path | None, sources: Mapping[str, set[str]]) -> Layout:
    """Read the layout of a file type: the site's own where there is one, else ours.

    Args:
        file_type: APP, DNC or DNF.
        folder: the site's layouts, `app.toml` and so on; None: there are none.
        sources: what a field's value can be taken from, by record type: `HDR`, `TRL`, and `*` for
            the body.

    Raises:
        UsageError: the file does not fit; the message names file, line and reason.

    """
    name = f"{file_type.lower()}.toml"
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{SETTING}={folder}: there is no such folder.")
    own = None if folder is None else folder / name
    if own is not None and own.exists():
        return parse_layout(own.read_text("utf-8"), str(own), file_type, sources)
    text = (files("tis_sync.esr") / "layouts" / name).read_text("utf-8")
    return parse_layout(text, name, file_type, sources)


def parse_layout(text: str, where: str, file_type: str, sources: Mapping[str, set[str]]) -> Layout:
    """Read a layout from TOML.

    Args:
        text: the TOML.
        where: the file's name, for messages.
        file_type: what it has to be a layout of.
        sources: as in `load_layout`.

    Raises:
        UsageError: it does not fit; the message names file, line and reason.

    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: {error}.") from None
    reader = _Reader(text, where, sources)
    if data.get("type") != file_type:
        raise reader.wrong("type", f"type is {data.get('type')!r}, wanted is {file_type!r}")
    records = data.get("record")
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise reader.wrong("record", "[[record]] tables are missing")
    found = [reader.record_type(r) for r in records]
    names = [r.name for r in found]
    if len(found) != 3 or names[0] != HEADER or names[2] != TRAILER:
        raise reader.wrong(
            "record", f"record types are {', '.join(names)}; wanted are HDR, one for the body, TRL"
        )
    return Layout(file_type, *found)


class _Reader:
    """Turns TOML tables into a layout; knows on which line things stand, for messages."""

    def __init__(self, text: str, where: str, sources: Mapping[str, set[str]]) -> None:
        self._lines = text.splitlines()
        self._where = where
        self._sources = sources

    def wrong(self, needle: str, reason: str, after: int = 0) -> UsageError:
        """The error for what stands on the first line, from `after` on, that has `needle`."""
        line = next((n for n, t in enumerate(self._lines, 1) if n > after and needle in t), 1)
        return UsageError(f"{self._where}, line {line}: {reason}.")

    def record_type(self, data: dict[str, Any]) -> RecordType:
        """One `[[record]]` table."""
        name, fields = data.get("name"), data.get("fields")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Z]{3}", name):
            raise self.wrong("[[record]]", f"name {name!r} of a record type is not three capitals")
        start = next((n for n, t in enumerate(self._lines) if f'"{name}"' in t), 0)
        if not isinstance(fields, list) or not fields:
            raise self.wrong(f'"{name}"', f"record type {name} has no fields")
        made = tuple(self._field(name, field, start) for field in fields)
        names = [field.name for field in made]
        for repeated in {n for n in names if names.count(n) > 1}:
            raise self.wrong(f'"{repeated}"', f"{name}.{repeated} stands there twice", start)
        return RecordType(name, made)

    def _field(self, record: str, data: Any, start: int) -> Field:
        known = {"name", "format", "mandatory", "source"}
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise self.wrong("fields", f"a field of {record} has no name", start)
        name = data["name"]
        needle = f'"{name}"'
        for key in set(data) - known:
            raise self.wrong(needle, f"{record}.{name}: unknown key {key!r}", start)
        match = FORMAT.fullmatch(str(data.get("format", "")))
        if match is None:
            raise self.wrong(
                needle,
                f"{record}.{name}: format {data.get('format')!r} is none of "
                "X(n), F(n), N(n), N(n,m), L(n), L(n,m)",
                start,
            )
        kind, size, decimals = match[1], int(match[2]), int(match[3] or 0)
        if not size or decimals >= size or (decimals and kind in "XF"):
            raise self.wrong(
                needle, f"{record}.{name}: format {data['format']} has no sense", start
            )
        source = data.get("source", name)
        allowed = self._sources.get(record, self._sources["*"])
        if source not in allowed:
            raise self.wrong(
                needle,
                f"{record}.{name}: there is no source {source!r}; "
                f"there are {', '.join(sorted(allowed))}",
                start,
            )
        mandatory = data.get("mandatory", False)
        if not isinstance(mandatory, bool):
            raise self.wrong(needle, f"{record}.{name}: mandatory is neither true nor false", start)
        return Field(name, kind, size, decimals, mandatory, source)  # type: ignore[arg-type]
