"""Deleting the content of records and files that were sent: after a time, or for one person.

Ids, numbers and states stay. They prevent anything from being sent twice, and the books still
balance: every number has its file, every file its lines, every exported record its line.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.esr.records import NO_CONTENT, RecordState
from tis_sync.logs import overwrite
from tis_sync.state import esr_tables as t
from tis_sync.state.tables import metadata

FINAL = (RecordState.EXPORTED, RecordState.DELETED_BEFORE_EXPORT)
# Columns of records that no two people share, and names: by both together somebody is found.
IDENTIFIERS = ("ukNino", "regNumber1", "regNumber2", "applicantEmailAddress")
NAMES = ("firstName", "lastName")
SHORTEST_TEXT = 5  # characters; shorter texts would be found in what is about others
REPLACEMENT = "***"
# Tables whose texts are not searched: their content is deleted in another way, or has no people.
NOT_SEARCHED = {"esr_record", "esr_line", "esr_dead_letter", "audit", "audit_start", "web_token"}
KEYS_PER_STATEMENT = 500


@dataclass(frozen=True)
class Erased:
    """What was deleted about one person.

    Attributes:
        records: records whose content was deleted.
        lines: lines of files whose content was deleted.
        dead_letters: dead letters that were deleted.
        texts: other rows in which a text was replaced.
        log_texts: places in the log file in which a text was replaced.
        open_placements: other placements of the person that are still to be sent; not erased.

    """

    records: int
    lines: int
    dead_letters: int
    texts: int
    log_texts: int
    open_placements: tuple[int, ...]


def empty_old(state: Database, now: datetime, days: int) -> int:
    """Delete the content of records that have been final for this long, and of their lines.

    Args:
        state: the state database.
        now: the current time.
        days: after how many days.

    Returns:
        The number of records and lines whose content was deleted.

    """
    oldest = now - timedelta(days=days)
    file_, line = t.file.c, t.line.c
    is_old = sa.and_(file_.reported_at < oldest, file_.emptied_at.is_(None), file_.records > 0)
    old_records = sa.and_(
        t.record.c.state.in_(FINAL),
        t.record.c.changed_at < oldest,
        t.record.c.content != NO_CONTENT,
    )
    with state.write() as connection:
        ids = list(connection.scalars(sa.select(t.record.c.id).where(old_records)))
        _empty_records(connection, ids)
        of_old_files = line.file.in_(sa.select(file_.name).where(is_old))
        lines = sa.update(t.line).where(of_old_files, line.content != NO_CONTENT)
        emptied = int(connection.execute(lines.values(content=NO_CONTENT)).rowcount)
        connection.execute(sa.update(t.file).where(is_old).values(emptied_at=now))
    return len(ids) + emptied


def erase(
    state: Database,
    log_file: Path | None,
    placements: Sequence[int],
    texts: Collection[str],
    now: datetime,
) -> Erased:
    """Delete everything in the state database and in the log that says who one person is.

    The numbers, e-mail address and name in the records of the placements are looked for in all
    lines, dead letters and texts.

    Args:
        state: the state database.
        log_file: the log file. None: there is none.
        placements: placements of the person, by their ids in TCS.
        texts: what else to look for: a number, an e-mail address, a full name.
        now: the current time.

    Raises:
        NotFoundError: there is no record of a placement, and no text was given.
        UsageError: a record is still to be sent, or a text is too short.

    """
    for text in texts:
        if len(text.strip()) < SHORTEST_TEXT:
            raise UsageError(
                f"A text to erase has fewer than {SHORTEST_TEXT} characters; it would be found in "
                "what is about other people."
            )
    with state.write() as connection:
        records = _records_of(connection, placements)
        if not records and not texts:
            raise NotFoundError(
                "There is no record of these placements; `tis-sync esr records` lists records."
            )
        open_ = [row for row in records if row.state not in FINAL]
        if open_:
            raise UsageError(
                f"The record {open_[0].id} is {open_[0].state}, and still to be sent or corrected. "
                "Delete the placement in TIS first; the next refresh then withdraws the record."
            )
        ids = [row.id for row in records]
        contents = [json.loads(row.content) for row in records]
        contents += [json.loads(text) for text in _contents_of(connection, ids)]
        needles = {text.strip().casefold() for text in texts} | set(_identifiers(contents))
        names = {name for one in contents if (name := _name_of(one)) is not None}
        others = [
            row
            for row in connection.execute(
                sa.select(t.record).where(_holds(t.record.c.content, needles, names))
            )
            if row.id not in ids and _is_about(row.content, needles, names)
        ]
        ids += [row.id for row in others if row.state in FINAL]
        lines = _lines_about(connection, ids, needles, names)
        _empty_records(connection, ids)
        _empty_lines(connection, lines, now)
        letters = _delete_letters(connection, needles, names)
        full_names = {f"{first} {last}" for first, last in names}
        replaced = _replace_texts(connection, needles | full_names)
    variants = {variant for text in needles | full_names for variant in _variants(text)}
    in_log = 0 if log_file is None else overwrite(log_file, variants)
    return Erased(
        len(ids), len(lines), letters, replaced, in_log,
        tuple(sorted({row.placement_id for row in others if row.state not in FINAL})),
    )  # fmt: skip


def _records_of(connection: sa.Connection, placements: Sequence[int]) -> Sequence[sa.Row[Any]]:
    condition = t.record.c.placement_id.in_(placements)
    return connection.execute(sa.select(t.record).where(condition)).all()


def _contents_of(connection: sa.Connection, ids: Sequence[str]) -> Iterator[str]:
    for part in _parts(ids):
        statement = sa.select(t.line.c.content).where(t.line.c.claim.in_(_claims(part)))
        yield from connection.scalars(statement)


def _identifiers(contents: Collection[dict[str, str | None]]) -> Iterator[str]:
    for one in contents:
        for column in IDENTIFIERS:
            value = (one.get(column) or "").strip().casefold()
            if len(value) >= SHORTEST_TEXT:
                yield value


def _name_of(content: dict[str, str | None]) -> tuple[str, str] | None:
    first, last = ((content.get(column) or "").strip().casefold() for column in NAMES)
    return (first, last) if first and last else None


def _holds(
    column: sa.ColumnElement[str], needles: Collection[str], names: Collection[tuple[str, str]]
) -> sa.ColumnElement[bool]:
    """Whether a JSON text may be about the person; `_is_about` looks closer."""
    texts = [variant for needle in needles for variant in _variants(needle)]
    found = [column.icontains(text, autoescape=True) for text in texts]
    for _, last in names:
        found += [column.icontains(text, autoescape=True) for text in _variants(last)]
    return sa.or_(sa.false(), *found)


def _is_about(text: str, needles: Collection[str], names: Collection[tuple[str, str]]) -> bool:
    """Whether JSON content has one of the identifiers, or both names, among its values."""
    values = {str(v).strip().casefold() for v in json.loads(text).values() if v is not None}
    if any(needle in value for needle in needles for value in values):
        return True
    words = {word for value in values for word in (value, value.partition(" ")[0])}
    return any(
        last in values and (first in words or first.partition(" ")[0] in words)
        for first, last in names
    )


def _lines_about(
    connection: sa.Connection,
    ids: Sequence[str],
    needles: Collection[str],
    names: Collection[tuple[str, str]],
) -> set[tuple[str, int]]:
    line = t.line.c
    found: set[tuple[str, int]] = set()
    for part in _parts(ids):
        own = sa.select(line.file, line.number).where(
            line.claim.in_(_claims(part)), line.content != NO_CONTENT
        )
        found |= {(name, number) for name, number in connection.execute(own)}
    others = sa.select(line.file, line.number, line.content).where(
        _holds(line.content, needles, names)
    )
    return found | {
        (name, number)
        for name, number, text in connection.execute(others)
        if _is_about(text, needles, names)
    }


def _empty_records(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Delete content, and the reasons for INVALID_DATA, which quote it."""
    for part in _parts(ids):
        connection.execute(
            sa.update(t.record).where(t.record.c.id.in_(part)).values(content=NO_CONTENT)
        )
        invalid = t.change.c.state == RecordState.INVALID_DATA
        connection.execute(
            sa.update(t.change).where(t.change.c.record_id.in_(part), invalid).values(reason=None)
        )


def _empty_lines(
    connection: sa.Connection, lines: Collection[tuple[str, int]], now: datetime
) -> None:
    for name, number in lines:
        of_line = sa.and_(t.line.c.file == name, t.line.c.number == number)
        connection.execute(sa.update(t.line).where(of_line).values(content=NO_CONTENT))
    for part in _parts(sorted({name for name, _ in lines})):
        files = sa.update(t.file).where(t.file.c.name.in_(part), t.file.c.emptied_at.is_(None))
        connection.execute(files.values(emptied_at=now))


def _delete_letters(
    connection: sa.Connection, needles: Collection[str], names: Collection[tuple[str, str]]
) -> int:
    letter = t.dead_letter.c
    about = []
    for row in connection.execute(sa.select(letter.id, letter.body, letter.reason)):
        text = row.body.decode(errors="replace")
        plain = f"{text} {_decoded(text)} {row.reason}".casefold()
        solid = "".join(plain.split())
        if any(needle in plain or needle in solid for needle in needles) or any(
            first.partition(" ")[0] in plain and last in plain for first, last in names
        ):
            about.append(row.id)
    for part in _parts(about):
        connection.execute(sa.delete(t.dead_letter).where(letter.id.in_(part)))
    return len(about)


def _replace_texts(connection: sa.Connection, texts: Collection[str]) -> int:
    """Replace texts, in any case, in every other text of the state database."""
    replaced = 0
    variants = sorted({v for text in texts for v in _variants(text)}, key=len, reverse=True)
    for table in metadata.sorted_tables:
        if table.name in NOT_SEARCHED or not variants:
            continue
        for column in table.columns:
            if not isinstance(column.type, sa.String):
                continue
            holds = sa.or_(*(column.icontains(text, autoescape=True) for text in variants))
            keys = list(table.primary_key.columns)
            for row in connection.execute(sa.select(*keys, column.label("found")).where(holds)):
                text = _without(row.found, variants)
                own = sa.and_(*(key == row._mapping[key.name] for key in keys))
                connection.execute(sa.update(table).where(own).values({column.name: text}))
                replaced += 1
    return replaced


def _without(text: str, variants: Collection[str]) -> str:
    for variant in variants:
        while (at := text.casefold().find(variant.casefold())) >= 0:
            text = text[:at] + REPLACEMENT + text[at + len(variant) :]
    return text


def _variants(text: str) -> set[str]:
    """A text as it is, and as it stands in JSON."""
    return {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _decoded(text: str) -> str:
    """JSON without its escapes; empty if it is none."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return ""


def _claims(ids: Sequence[str]) -> list[str]:
    return [f"APP/{one}" for one in ids]


def _parts(keys: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(keys), KEYS_PER_STATEMENT):
        yield list(keys[at : at + KEYS_PER_STATEMENT])
