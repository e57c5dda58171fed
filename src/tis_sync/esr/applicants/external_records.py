"""External records: derived by another system, and sent to us in messages.

They are validated, postponed, exported and reported like our own, but `generate` does not derive
them again. Until it is sent, a record has the values of its last message. Only time changes it: a
record that starts too soon for the next export becomes DELETED_BEFORE_EXPORT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.esr.applicants.content import RAW_SCHEMA, content
from tis_sync.esr.applicants.plan import SCHEMA
from tis_sync.esr.applicants.validation import validate
from tis_sync.esr.calendar import earliest_start, latest_start
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import APPLICANT_COLUMNS
from tis_sync.esr.files.layout import Layout
from tis_sync.esr.files.numbering import lock_counter
from tis_sync.esr.records import RecordOrigin, RecordState
from tis_sync.state import esr_tables as t

DEANERY_LENGTH = 20  # characters of a deanery code that are stored; no known code is longer
SENT = (RecordState.EXPORTED, None)


class Ignored(StrEnum):
    """Why a message changed nothing."""

    DUPLICATE = "duplicate message"  # a message with this id was received before
    SENT = "already sent"  # the record is in a file, or EXPORTED, and never changes again


@dataclass(frozen=True)
class ExternalRecord:
    """A record as its message describes it. Texts are raw; None or whitespace means no value.

    Attributes:
        message_id: a second message with this id changes nothing.
        queue: where the message comes from.
        post_id: None: the records of one position count as the records of one post.
        deanery: None: the deanery of the post number.
        effective_date: None: the start date, which is `projected_hire_date`.
        gmc_number, gdc_number: registrations with the General Medical and Dental Councils.

    """

    message_id: str
    queue: str
    placement_id: int
    position_id: int
    position_number: int
    projected_hire_date: date
    post_id: int | None = None
    post_number: str | None = None
    deanery: str | None = None
    projected_end_date: date | None = None
    effective_date: date | None = None
    last_name: str | None = None
    first_name: str | None = None
    middle_names: str | None = None
    title: str | None = None
    previous_last_name: str | None = None
    dob: date | None = None
    gender: str | None = None
    applicant_email_address: str | None = None
    home_tel: str | None = None
    mobile_tel: str | None = None
    address1: str | None = None
    address2: str | None = None
    address3: str | None = None
    address4: str | None = None
    town: str | None = None
    county: str | None = None
    postcode: str | None = None
    country: str | None = None
    ethnic_origin_code: str | None = None
    nationality: str | None = None
    country_of_birth: str | None = None
    marital_status: str | None = None
    sexual_orientation: str | None = None
    religious_belief: str | None = None
    disability: str | None = None
    gmc_number: str | None = None
    gmc_expiry_date: date | None = None
    gdc_number: str | None = None
    gdc_expiry_date: date | None = None
    national_training_number: str | None = None
    uk_nino: str | None = None
    contact_person_name: str | None = None
    contact_person_tel: str | None = None

    @property
    def id(self) -> str:
        """The id of the record: placement-position-number."""
        return f"{self.placement_id}-{self.position_id}-{self.position_number}"


def store_external_records(
    state: Database,
    records: Sequence[ExternalRecord],
    *,
    layout: Layout,
    prefixes: Mapping[str, str],
    day: date,
    now: datetime,
) -> list[str]:
    """Store records, and the receipt of their messages, in one transaction.

    Args:
        state: the state database.
        records: in the order of arrival; if a record occurs several times, the last one counts.
        layout: the layout of APP files, which decides whether a record is valid.
        prefixes: the setting `esr_deaneries`: the deanery for the first part of a post number,
            where that part is not itself the code of the deanery.
        day: today's date (Europe/London).
        now: the current time.

    Returns:
        For each record, its new `RecordState` or why it was `Ignored`.

    """
    raw = pl.DataFrame([_raw_row(record, prefixes) for record in records], schema=RAW_SCHEMA)
    rows = _as_of(validate(content(raw.lazy()), day, layout), day).to_dicts()
    results: list[str] = []
    messages: list[dict[str, Any]] = []
    changed: dict[str, dict[str, Any]] = {}
    changes: list[dict[str, Any]] = []
    with state.write() as connection:
        lock_counter(connection, FileType.APP)
        received = _received(connection, [record.message_id for record in records])
        existing = _existing(connection, [record.id for record in records])
        for record, row in zip(records, rows, strict=True):
            if record.message_id in received:
                results.append(Ignored.DUPLICATE)
                continue
            received.add(record.message_id)
            messages.append({"id": record.message_id, "queue": record.queue, "received_at": now})
            before = existing.get(record.id)
            if before == SENT:
                results.append(Ignored.SENT)
                continue
            results.append(RecordState(row["state"]))
            cause = f"message {record.message_id}"
            changed[record.id] = row | {
                "origin": RecordOrigin.MESSAGE,
                "postponed": None,
                "created_at": now,
                "changed_at": now,
                "cause": cause,
            }
            after = (row["state"], row["reason"])
            if before != after:
                existing[record.id] = after
                change = {"record_id": record.id, "at": now, "cause": cause}
                changes.append(change | {"state": row["state"], "reason": row["reason"]})
        for table, new in ((t.message, messages), (t.change, changes)):
            if new:
                connection.execute(sa.insert(table), new)
        if changed:
            connection.execute(_upsert(state), list(changed.values()))
    return results


def refresh_external_records(records: pl.DataFrame, day: date, layout: Layout) -> pl.DataFrame:
    """The desired external records of a day.

    Args:
        records: the open external records, with the columns of `plan.SCHEMA`.
        day: the day (Europe/London) whose window applies.
        layout: the layout of APP files.

    Returns:
        A frame with the columns of `plan.SCHEMA`.

    """
    stored = pl.Struct(dict.fromkeys(APPLICANT_COLUMNS, pl.String()))
    names = [name for name in APPLICANT_COLUMNS if name not in {"positionId", "positionNumber"}]
    applicants = records.lazy().select(
        "id",
        "start",
        "deanery",
        pl.col("content").str.json_decode(stored).struct.field(*names),
        placementId="placement_id",
        postId="post_id",
        positionId="position_id",
        positionNumber="position_number",
        nationalPostNumber="post_number",
        sentIn=pl.lit(None, pl.String),
    )
    return _as_of(validate(applicants, day, layout), day)


def _received(connection: sa.Connection, ids: list[str]) -> set[str]:
    """The ids of messages that were received before."""
    return set(connection.scalars(sa.select(t.message.c.id).where(t.message.c.id.in_(ids))))


def _existing(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[str, str | None]]:
    """State and reason of the existing records; `SENT` if a record never changes again."""
    columns = (t.record.c.id, t.record.c.state, t.record.c.reason, t.record.c.file)
    statement = sa.select(*columns).where(t.record.c.id.in_(ids))
    return {
        row.id: SENT if row.state == RecordState.EXPORTED or row.file else (row.state, row.reason)
        for row in connection.execute(statement)
    }


def _upsert(state: Database) -> sa.Insert:
    insert = state.upsert(t.record)
    names = [*(name for name in SCHEMA if name != "id"), "origin", "postponed", "changed_at",
             "cause"]  # fmt: skip
    upsert: sa.Insert = insert.on_conflict_do_update(
        index_elements=["id"],
        set_={name: insert.excluded[name] for name in names},
        where=sa.and_(t.record.c.state != RecordState.EXPORTED, t.record.c.file.is_(None)),
    )
    return upsert


def _as_of(records: pl.DataFrame, day: date) -> pl.DataFrame:
    """Mark the records that start outside the window of a day as DELETED_BEFORE_EXPORT."""
    first, last = earliest_start(day), latest_start(day)
    outside = ~pl.col("start").is_between(first, last)
    reason = pl.format(
        f"it starts on {{}}; the start dates that can be exported today are {first:%-d %B %Y} to "
        f"{last:%-d %B %Y}",
        pl.col("start").dt.strftime("%-d %B %Y"),
    )
    deleted = pl.lit(RecordState.DELETED_BEFORE_EXPORT.value)
    return records.with_columns(
        state=pl.when(outside).then(deleted).otherwise("state"),
        reason=pl.when(outside).then(reason).otherwise("reason"),
    ).select(SCHEMA.keys())


def _raw_row(record: ExternalRecord, prefixes: Mapping[str, str]) -> dict[str, Any]:
    """Convert a record to a row of `RAW_SCHEMA`."""
    prefix = (record.post_number or "").split("/")[0].strip().upper()
    code = (record.deanery or prefixes.get(prefix, prefix)).strip().upper()
    return {
        "id": record.id,
        "placementId": record.placement_id,
        "postId": -record.position_id if record.post_id is None else record.post_id,
        "positionId": record.position_id,
        "positionNumber": record.position_number,
        "deanery": code[:DEANERY_LENGTH] or None,
        "nationalPostNumber": record.post_number,
        "sentIn": None,
        "start": record.projected_hire_date,
        "effectiveDate": record.effective_date,
        "projectedEndDate": record.projected_end_date,
        "lastName": record.last_name,
        "firstName": record.first_name,
        "middleNames": record.middle_names,
        "title": record.title,
        "previousLastName": record.previous_last_name,
        "dob": record.dob,
        "gender": record.gender,
        "applicantEmailAddress": record.applicant_email_address,
        "homeTel": record.home_tel,
        "mobileTel": record.mobile_tel,
        "address1": record.address1,
        "address2": record.address2,
        "address3": record.address3,
        "address4": record.address4,
        "town": record.town,
        "county": record.county,
        "postcode": record.postcode,
        "country": record.country,
        "ethnicOriginCode": record.ethnic_origin_code,
        "nationality": record.nationality,
        "countryOfBirth": record.country_of_birth,
        "maritalStatus": record.marital_status,
        "sexualOrientation": record.sexual_orientation,
        "religiousBelief": record.religious_belief,
        "disability": record.disability,
        "gmcNumber": record.gmc_number,
        "gmcEndDate": record.gmc_expiry_date,
        "gdcNumber": record.gdc_number,
        "gdcEndDate": record.gdc_expiry_date,
        "nationalTrainingNumber": record.national_training_number,
        "ukNino": record.uk_nino,
        "contactPersonName": record.contact_person_name,
        "contactPersonTel": record.contact_person_tel,
    }
