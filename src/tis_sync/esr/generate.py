"""Derive the records from TCS, and write what changed: all of it, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tis_sync.esr import counter, elsewhere
from tis_sync.esr.deaneries import APP
from tis_sync.esr.eligible import PLACEMENT_COLUMNS, READS, applicants, obstacle
from tis_sync.esr.judge import judged
from tis_sync.esr.layout import Layout
from tis_sync.esr.plan import EXPORTED, INVALID, SCHEMA, TO_EXPORT, RecordPlan, plan
from tis_sync.reconcile.plan import OLD
from tis_sync.state import esr as t
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.read import KeyRange, Read, just
from tis_sync.tcs.source import Frames, SetAside, Source
from tis_sync.tcs.write import KEYS_A_STATEMENT

ROWS_A_STATEMENT = 5_000  # rows as Python objects at a time; bounds memory


@dataclass(frozen=True)
class Generated:
    """What a generation did: counts of records, and TCS records that could not be used."""

    eligible: int
    added: int
    changed: int
    removed: int
    invalid: int
    set_aside: list[SetAside]


def desired(frames: Frames, day: date, prefixes: Mapping[str, str], layout: Layout) -> pl.DataFrame:
    """The records that should be, by TCS, as `SCHEMA`."""
    return judged(applicants(frames, day, prefixes), day, layout)


def generate(
    state: sa.Engine,
    source: sa.Engine,
    layout: Layout,
    prefixes: Mapping[str, str],
    day: date,
    now: datetime,
    cause: str,
) -> Generated:
    """Bring the records up to date with TCS.

    Args:
        state: our state.
        source: TCS.
        layout: of APP files: what a valid record is.
        prefixes: which deanery a post number's first part means, where not that of its name.
        day: the day (Europe/London) whose window counts.
        now: the present moment.
        cause: names this generation in the records' history.

    Raises:
        UnreachableError, SourceError: TCS or our state does not answer.

    """
    loaded = Source(source, day).load(READS, KeyRange())
    wanted = desired(loaded.frames, day, prefixes, layout)
    there = existing(state, wanted["id"])
    others = there.filter(pl.col("source") == elsewhere.SOURCE)
    open_ = others.filter(pl.col("state").is_in([TO_EXPORT, INVALID]), pl.col("file").is_null())
    wanted = pl.concat(
        [wanted.join(others, on="id", how="anti"), elsewhere.again(open_, day, layout)]
    )
    there = there.drop("source")
    lost = there.filter(pl.col("state") != EXPORTED, pl.col("file").is_null()).join(
        wanted.select("id"), on="id", how="anti"
    )
    made = plan(wanted, there, _gone(source, lost, day))
    write(state, made, now, cause)
    return Generated(
        eligible=made.considered,
        added=made.added.height,
        changed=made.changed.height - made.removed,
        removed=made.removed,
        invalid=wanted.filter(pl.col("state") == INVALID).height,
        set_aside=loaded.set_aside,
    )


def existing(state: sa.Engine, wanted: pl.Series) -> pl.DataFrame:
    """The records that are open, and those, sent or not, of the ids that are wanted."""
    columns = [t.record.c[name] for name in (*SCHEMA, "file", "source")]
    open_ = sa.select(*columns).where(
        t.record.c.state.in_([TO_EXPORT, INVALID]), t.record.c.file.is_(None)
    )
    with state.connect() as connection:
        found = [_frame(connection, open_)]
        others = wanted.filter(~wanted.is_in(found[0]["id"].implode()))
        for ids in others.to_frame().iter_slices(KEYS_A_STATEMENT):
            statement = sa.select(*columns).where(t.record.c.id.in_(ids.to_series().to_list()))
            found.append(_frame(connection, statement))
    return pl.concat(found)


def _frame(connection: sa.Connection, statement: sa.Select[tuple[object, ...]]) -> pl.DataFrame:
    schema = {**SCHEMA, "file": pl.String(), "source": pl.String()}
    streaming = connection.execution_options(yield_per=ROWS_A_STATEMENT)
    parts = [
        pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")
        for rows in streaming.execute(statement).partitions()
    ]
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def _gone(source: sa.Engine, lost: pl.DataFrame, day: date) -> pl.DataFrame:
    """Why records are no longer wanted: id, why."""
    placements = placements_of(source, day, lost["placement_id"].unique())
    no_position = pl.format("position {} is no longer a reconciled one of the post", "position_id")
    return (
        lost.select("id", "placement_id", "position_id")
        .join(placements.rename({"id": "placement_id"}), on="placement_id", how="left")
        .select("id", why=pl.coalesce(obstacle(day), no_position))
    )


def placements_of(source: sa.Engine, day: date, ids: pl.Series) -> pl.DataFrame:
    """Placements of TCS by their ids, as `PLACEMENT_COLUMNS`; those that it has."""
    reader, found = Source(source, day), []
    for part in ids.to_frame().iter_slices(KEYS_A_STATEMENT):
        named = tcs.Placement.c.id.in_(part.to_series().to_list())
        read = Read(tcs.Placement, PLACEMENT_COLUMNS, where=just(named))
        found.append(reader.load([read], KeyRange()).frames["Placement"])
    if not found:
        return pl.DataFrame(schema=Read(tcs.Placement, PLACEMENT_COLUMNS).schema())
    return pl.concat(found)


def write(state: sa.Engine, made: RecordPlan, now: datetime, cause: str) -> None:
    """Carry a plan out in one transaction.

    A record that another process added, changed or claimed meanwhile is left alone: the next
    generation looks again. The history is told what was written, not what was planned.
    """
    if made.added.is_empty() and made.changed.is_empty():
        return
    dialect = postgresql if state.dialect.name == "postgresql" else sqlite
    stamps = {"created_at": now, "changed_at": now, "cause": cause}
    with state.execution_options(writes=True).begin() as connection:
        counter.lock(connection, APP)
        insert = dialect.insert(t.record).on_conflict_do_nothing()
        for part in made.added.iter_slices(ROWS_A_STATEMENT):
            connection.execute(insert, [row | stamps for row in part.to_dicts()])
        changed = made.changed.with_columns(new_cause=pl.when(made.moved()).then(pl.lit(cause)))
        for part in changed.iter_slices(ROWS_A_STATEMENT):
            connection.execute(_update(), _changed_rows(part, now))
        moved = sa.select(
            t.record.c.id, sa.literal(now, t.record.c.changed_at.type), t.record.c.state,
            t.record.c.reason, t.record.c.cause,
        ).where(t.record.c.cause == cause)  # fmt: skip
        columns = ["record_id", "at", "state", "reason", "cause"]
        connection.execute(sa.insert(t.change).from_select(columns, moved))


def _changed_rows(changed: pl.DataFrame, now: datetime) -> list[dict[str, object]]:
    named = {name: f"new_{name}" for name in SCHEMA if name != "id"}
    rows = changed.rename({**named, "id": "key", OLD + "state": "expected"})
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
            held=None,
        )
    )
