"""Generation: derive the records from TCS, and write what changed, in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tis_sync.db.bulk import KEYS_PER_STATEMENT
from tis_sync.db.database import Database
from tis_sync.esr.applicants.content import applicants
from tis_sync.esr.applicants.eligibility import PLACEMENT_COLUMNS, READS, obstacle
from tis_sync.esr.applicants.external_records import refresh_external_records
from tis_sync.esr.applicants.plan import SCHEMA, RecordPlan, plan
from tis_sync.esr.applicants.validation import validate
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.layout import Layout
from tis_sync.esr.files.numbering import lock_counter
from tis_sync.esr.records import RecordOrigin, RecordState
from tis_sync.reconcile.table_plan import OLD
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.fit import SetAside
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read, always
from tis_sync.tcs.source import Frames, Source

ROWS_PER_STATEMENT = 5_000  # rows held as Python objects at a time; this bounds memory
OPEN_STATES = (RecordState.TO_EXPORT, RecordState.INVALID_DATA)


@dataclass(frozen=True)
class Generated:
    """The result of a generation.

    Attributes:
        eligible, added, changed, removed, invalid: numbers of records.
        set_aside: TCS rows that could not be used.

    """

    eligible: int
    added: int
    changed: int
    removed: int
    invalid: int
    set_aside: list[SetAside]


def desired_records(
    frames: Frames, day: date, prefixes: Mapping[str, str], layout: Layout
) -> pl.DataFrame:
    """The records that should exist according to TCS, with the columns of `plan.SCHEMA`."""
    return validate(applicants(frames, day, prefixes), day, layout)


def generate(
    state: Database,
    source: Database,
    layout: Layout,
    prefixes: Mapping[str, str],
    day: date,
    now: datetime,
    cause: str,
) -> Generated:
    """Refresh the records from TCS.

    Args:
        state: the state database.
        source: TCS.
        layout: the layout of APP files, which decides whether a record is valid.
        prefixes: as for `tis_sync.esr.applicants.eligibility.positions`.
        day: the day (Europe/London) whose window applies.
        now: the current time.
        cause: the id of this generation, for the history of the records.

    Raises:
        UnreachableError, SourceError: TCS or the state database does not answer.

    """
    loaded = Source(source, day).load(READS, ALL_KEYS)
    from_tcs = desired_records(loaded.frames, day, prefixes, layout)
    existing = _existing_records(state, from_tcs["id"])
    unclaimed = pl.col("file").is_null()
    external = existing.filter(pl.col("origin") == RecordOrigin.MESSAGE.value)
    open_external = external.filter(pl.col("state").is_in(_values(OPEN_STATES)), unclaimed)
    refreshed = refresh_external_records(open_external, day, layout)
    desired = pl.concat([from_tcs.join(external, on="id", how="anti"), refreshed])
    undesired = existing.filter(
        pl.col("state") != RecordState.EXPORTED.value, unclaimed
    ).join(desired.select("id"), on="id", how="anti")  # fmt: skip
    changes = plan(desired, existing.drop("origin"), _reasons(source, undesired, day))
    write(state, changes, now, cause)
    return Generated(
        eligible=changes.considered,
        added=changes.added.height,
        changed=changes.changed.height - changes.removed,
        removed=changes.removed,
        invalid=desired.filter(pl.col("state") == RecordState.INVALID_DATA.value).height,
        set_aside=loaded.set_aside,
    )


def placements_by_id(source: Database, day: date, ids: pl.Series) -> pl.DataFrame:
    """The existing TCS placements with these ids, with the columns of `PLACEMENT_COLUMNS`."""
    reader, parts = Source(source, day), []
    for part in ids.to_frame().iter_slices(KEYS_PER_STATEMENT):
        condition = tcs.Placement.c.id.in_(part.to_series().to_list())
        read = Read(tcs.Placement, PLACEMENT_COLUMNS, where=always(condition))
        parts.append(reader.load([read], ALL_KEYS).frames["Placement"])
    if not parts:
        return pl.DataFrame(schema=Read(tcs.Placement, PLACEMENT_COLUMNS).schema())
    return pl.concat(parts)


def write(state: Database, changes: RecordPlan, now: datetime, cause: str) -> None:
    """Apply a plan in one transaction.

    A record that another process has added, changed or claimed in the meantime is left alone,
    because the next generation compares again. The history records what was written, not what was
    planned.
    """
    if changes.added.is_empty() and changes.changed.is_empty():
        return
    stamps = {"created_at": now, "changed_at": now, "cause": cause}
    with state.write() as connection:
        lock_counter(connection, FileType.APP)
        insert = state.upsert(t.record).on_conflict_do_nothing()
        for part in changes.added.iter_slices(ROWS_PER_STATEMENT):
            connection.execute(insert, [row | stamps for row in part.to_dicts()])
        new_cause = pl.when(changes.changes_state()).then(pl.lit(cause))
        changed = changes.changed.with_columns(new_cause=new_cause)
        for part in changed.iter_slices(ROWS_PER_STATEMENT):
            connection.execute(_update(), _changed_rows(part, now))
        written = sa.select(
            t.record.c.id,
            sa.literal(now, t.record.c.changed_at.type),
            t.record.c.state,
            t.record.c.reason,
            t.record.c.cause,
        ).where(t.record.c.cause == cause)
        columns = ["record_id", "at", "state", "reason", "cause"]
        connection.execute(sa.insert(t.change).from_select(columns, written))


def _existing_records(state: Database, ids: pl.Series) -> pl.DataFrame:
    """The open records, and all records with these ids, sent or not."""
    columns = [t.record.c[name] for name in (*SCHEMA, "file", "origin")]
    is_open = sa.and_(t.record.c.state.in_(OPEN_STATES), t.record.c.file.is_(None))
    with state.read() as connection:
        parts = [_frame(connection, sa.select(*columns).where(is_open))]
        others = ids.filter(~ids.is_in(parts[0]["id"].implode()))
        for part in others.to_frame().iter_slices(KEYS_PER_STATEMENT):
            statement = sa.select(*columns).where(t.record.c.id.in_(part.to_series().to_list()))
            parts.append(_frame(connection, statement))
    return pl.concat(parts)


def _frame(connection: sa.Connection, statement: sa.Select[tuple[object, ...]]) -> pl.DataFrame:
    schema = {**SCHEMA, "file": pl.String(), "origin": pl.String()}
    streaming = connection.execution_options(yield_per=ROWS_PER_STATEMENT)
    parts = [
        pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")
        for rows in streaming.execute(statement).partitions()
    ]
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def _reasons(source: Database, undesired: pl.DataFrame, day: date) -> pl.DataFrame:
    """Why existing records are no longer desired: id, why."""
    placements = placements_by_id(source, day, undesired["placement_id"].unique())
    no_position = pl.format(
        "position {} is no longer a reconciled position of the post", "position_id"
    )
    return (
        undesired.select("id", "placement_id", "position_id")
        .join(placements.rename({"id": "placement_id"}), on="placement_id", how="left")
        .select("id", why=pl.coalesce(obstacle(day), no_position))
    )


def _values(states: tuple[RecordState, ...]) -> list[str]:
    return [state.value for state in states]


def _changed_rows(changed: pl.DataFrame, now: datetime) -> list[dict[str, object]]:
    names = {name: f"new_{name}" for name in SCHEMA if name != "id"}
    rows = changed.rename({**names, "id": "key", OLD + "state": "expected"})
    return [row | {"now": now} for row in rows.drop(OLD + "reason").to_dicts()]


def _update() -> sa.Update:
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in SCHEMA if name != "id"}
    return (
        sa.update(t.record)
        .where(
            t.record.c.id == sa.bindparam("key"),
            t.record.c.state == sa.bindparam("expected"),
            t.record.c.file.is_(None),
        )
        .values(
            **values,
            cause=sa.func.coalesce(sa.bindparam("new_cause"), t.record.c.cause),
            changed_at=sa.bindparam("now"),
            postponed=None,
        )
    )
