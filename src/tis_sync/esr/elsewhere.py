"""Records from elsewhere: somebody else derived them from TCS, and sent them by the broker.

They are checked, held back, exported and told of as our own are. `generate` does not derive them
again: a record is what its last message said, until it is sent. What changes by itself is what time
does: a record whose start has come too near is DELETED_BEFORE_EXPORT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tis_sync.esr import counter
from tis_sync.esr.broker.messages import AppRecord, ProfessionalBody
from tis_sync.esr.deaneries import APP
from tis_sync.esr.eligible import SOURCES, earliest_start, latest_start
from tis_sync.esr.judge import judged
from tis_sync.esr.layout import Layout
from tis_sync.esr.plan import DELETED, EXPORTED, SCHEMA
from tis_sync.state import esr as t

SOURCE = "message"  # as against "tcs"
FINAL = (EXPORTED, None)
CODE_LENGTH = 20  # of what claims to be a deanery's code; longer ones are none anyway
GMC, GDC = "General Medical Council", "General Dental Council"
COLUMNS = {
    "id": pl.String(),
    **dict.fromkeys(("placementId", "postId", "positionId", "positionNumber"), pl.Int64()),
    **dict.fromkeys(("deanery", "nationalPostNumber", "sentIn"), pl.String()),
    "start": pl.Date(),
    **{name: pl.String() for name in SOURCES if name not in {"positionId", "positionNumber"}},
}


@dataclass(frozen=True)
class Told:
    """A record that somebody else derived, and the message that told us.

    Attributes:
        message_id: a message of this id that was taken before changes nothing.
        queue: where the message came from.
        record: what it says.
        deanery: that of the message's headers, for a record that names none.

    """

    message_id: str
    queue: str
    record: AppRecord
    deanery: str | None


def take(
    state: sa.Engine,
    told: Sequence[Told],
    *,
    layout: Layout,
    prefixes: Mapping[str, str],
    day: date,
    now: datetime,
) -> list[str]:
    """Store records and that their messages were taken, in one transaction.

    Args:
        state: our state.
        told: in the order in which they came; of one record, the last one counts.
        layout: of APP files: what a valid record is.
        prefixes: which deanery a post number's first part means, where not that of its name.
        day: the present day (Europe/London).
        now: the present moment.

    Returns:
        What became of each: "taken before"; "sent before" (in a file, or EXPORTED: never changed
        again); or the state of the record.

    """
    rows = [_row(one.record, one.deanery, prefixes) for one in told]
    frame = pl.DataFrame(rows, schema=COLUMNS)
    wanted = judged(frame.lazy(), day, layout)
    values = wanted.with_columns(**_by_time(wanted, day)).select(SCHEMA.keys()).to_dicts()
    became = [""] * len(told)
    with state.execution_options(writes=True).begin() as connection:
        counter.lock(connection, APP)
        before = _taken(connection, [one.message_id for one in told])
        there = _there(connection, frame["id"].to_list())
        messages, records, changes = [], {}, []
        for place, (one, value) in enumerate(zip(told, values, strict=True)):
            if one.message_id in before:
                became[place] = "taken before"
                continue
            before.add(one.message_id)
            messages.append({"id": one.message_id, "queue": one.queue, "taken_at": now})
            was = there.get(value["id"])
            if was == FINAL:
                became[place] = "sent before"
                continue
            became[place] = value["state"]
            cause = f"message {one.message_id}"
            stamps = {"source": SOURCE, "held": None, "created_at": now, "changed_at": now}
            records[value["id"]] = value | stamps | {"cause": cause}
            if was != (value["state"], value["reason"]):
                there[value["id"]] = (value["state"], value["reason"])
                moved = {"record_id": value["id"], "at": now, "cause": cause}
                changes.append(moved | {name: value[name] for name in ("state", "reason")})
        for table, made in ((t.message, messages), (t.change, changes)):
            if made:
                connection.execute(sa.insert(table), made)
        if records:
            connection.execute(_upsert(state), list(records.values()))
    return became


def _taken(connection: sa.Connection, ids: list[str]) -> set[str]:
    return set(connection.scalars(sa.select(t.message.c.id).where(t.message.c.id.in_(ids))))


def _there(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[str, str | None]]:
    """State and reason of the records that are there; `FINAL` of those that never change again."""
    columns = (t.record.c.id, t.record.c.state, t.record.c.reason, t.record.c.file)
    statement = sa.select(*columns).where(t.record.c.id.in_(ids))
    return {
        row.id: FINAL if row.state == EXPORTED or row.file else (row.state, row.reason)
        for row in connection.execute(statement)
    }


def _upsert(state: sa.Engine) -> sa.Insert:
    insert = (postgresql if state.dialect.name == "postgresql" else sqlite).insert(t.record)
    names = [*(name for name in SCHEMA if name != "id"), "source", "held", "changed_at", "cause"]
    upsert: sa.Insert = insert.on_conflict_do_update(
        index_elements=["id"],
        set_={name: insert.excluded[name] for name in names},
        where=sa.and_(t.record.c.state != EXPORTED, t.record.c.file.is_(None)),
    )
    return upsert


def again(open_: pl.DataFrame, day: date, layout: Layout) -> pl.DataFrame:
    """Records from elsewhere as they should be on a day.

    Args:
        open_: those that are open: `SCHEMA`, and `source`.
        day: the day (Europe/London) whose window counts.
        layout: of APP files.

    Returns:
        As `SCHEMA`.

    """
    texts = pl.Struct(dict.fromkeys(SOURCES, pl.String()))
    said = open_.lazy().select(
        "id", "start", "deanery",
        pl.col("content").str.json_decode(texts).struct.field(
            *(name for name in SOURCES if name not in {"positionId", "positionNumber"})
        ),
        placementId="placement_id", postId="post_id", positionId="position_id",
        positionNumber="position_number", nationalPostNumber="post_number",
        sentIn=pl.lit(None, pl.String),
    )  # fmt: skip
    found = judged(said, day, layout)
    return found.with_columns(**_by_time(found, day)).select(SCHEMA.keys())


def _by_time(found: pl.DataFrame, day: date) -> dict[str, pl.Expr]:
    """State and reason where the start lies outside of the window."""
    starts = found["start"]
    first, last = earliest_start(day), latest_start(day)
    outside = pl.lit(starts < first) | pl.lit(starts > last)
    why = pl.lit(
        pl.Series(
            [
                f"it starts on {start:%-d %B %Y}; what can go today starts from "
                f"{first:%-d %B %Y} to {last:%-d %B %Y}"
                for start in starts
            ],
            dtype=pl.String,
        )
    )
    return {
        "state": pl.when(outside).then(pl.lit(DELETED)).otherwise("state"),
        "reason": pl.when(outside).then(why).otherwise("reason"),
    }


def _row(record: AppRecord, deanery: str | None, prefixes: Mapping[str, str]) -> dict[str, Any]:
    """One message as `COLUMNS`."""
    first = (record.post_number or "").split("/")[0].strip().upper()
    code = (record.deanery or deanery or prefixes.get(first, first) or "").strip().upper()
    bodies: dict[str, ProfessionalBody] = {body.body: body for body in record.professional_bodies}
    gmc, gdc = bodies.get(GMC), bodies.get(GDC)
    sex = (record.gender or "")[:1].upper()
    key = (record.placement_id, record.position_id, record.position_number)
    plain = record.model_dump(by_alias=True, exclude={"address", "professional_bodies"})
    return {name: plain[name] for name in COLUMNS if name in plain} | {
        "id": "-".join(map(str, key)),
        "postId": -record.position_id if record.post_id is None else record.post_id,
        "deanery": code[:CODE_LENGTH] or None,
        "nationalPostNumber": record.post_number,
        "sentIn": None,
        "start": record.projected_hire_date,
        "effectiveDate": _day(record.effective_date or record.projected_hire_date),
        "projectedHireDate": _day(record.projected_hire_date),
        "projectedEndDate": _day(record.projected_end_date),
        "dob": _day(record.dob),
        "title": record.title and record.title.upper(),
        "gender": sex if sex in {"M", "F"} else None,
        **record.address.model_dump(),
        "postcode": record.address.postcode and record.address.postcode.upper(),
        "ukNino": record.uk_nino and "".join(record.uk_nino.split()).upper(),
        "professionalBody1": gmc and GMC,
        "regNumber1": gmc and gmc.reg_number,
        "expiryDate1": gmc and _day(gmc.expiry_date),
        "professionalBody2": gdc and GDC,
        "regNumber2": gdc and gdc.reg_number,
        "expiryDate2": gdc and _day(gdc.expiry_date),
        "contactPersonName": record.contact_person.name,
        "contactPersonTel": record.contact_person.tel,
    }


def _day(day: date | None) -> str | None:
    return None if day is None else f"{day:%Y%m%d}"
