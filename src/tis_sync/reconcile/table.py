"""Carry out a plan on a table of TCS: in transactions, optimistic on what TCS may change meanwhile.

An update or a removal names the values that the plan expects; where the database finds another
number of records than planned, or an insert meets a record that is there already, the transaction
is rolled back and `PlanOutdatedError` says so: the caller plans again.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as replace_fields
from itertools import pairwise

import polars as pl
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from tis_sync.errors import PlanOutdatedError
from tis_sync.reconcile.plan import OLD, Plan, TableTarget
from tis_sync.tcs.connect import COLLIDED, explained
from tis_sync.tcs.source import SetAside
from tis_sync.tcs.write import KEYS_A_STATEMENT, insert, writing

ROWS_A_TRANSACTION = 100_000
PARTS_AT_ONCE = 2  # while the driver encodes the rows of one, the server stores those of the other


def apply(engine: sa.Engine, target: TableTarget, plan: Plan) -> None:
    """Make the target as planned.

    A plan that adds many records is cut by key, and the parts are applied two at a time, each in
    a transaction of its own: all of a part, or nothing of it. What stands under one key is never
    split.

    Raises:
        PlanOutdatedError: TCS changed a record that the plan is about.

    """
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="apply") as threads:
        applied = [threads.submit(_apply, engine, target, part) for part in _cut(target, plan)]
        for part in applied:
            part.result()


def _cut(target: TableTarget, plan: Plan) -> Iterator[Plan]:
    """The plan in parts of about `ROWS_A_TRANSACTION` additions, by ranges of the first key."""
    by = pl.col(target.by.name)
    keys = plan.added[target.by.name]
    cuts = keys.gather_every(ROWS_A_TRANSACTION, ROWS_A_TRANSACTION).unique().sort().to_list()
    for low, high in pairwise([None, *cuts, None]):
        inside = pl.lit(value=True)
        if low is not None:
            inside &= by >= low
        if high is not None:
            inside &= by < high
        yield replace_fields(
            plan,
            added=plan.added.filter(inside),
            changed=plan.changed.filter(inside),
            removed=plan.removed.filter(inside),
            duplicates=plan.duplicates.filter(inside),
        )


def _apply(engine: sa.Engine, target: TableTarget, plan: Plan) -> None:
    if plan.is_empty:
        return
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"):
        try:
            with writing(engine) as connection:
                # Added first: who reads without a snapshot sees too much rather than too little.
                insert(connection, target.table, plan.added)
                _update(connection, target, plan.changed)
                _delete(connection, target, pl.concat([plan.removed, plan.duplicates]))
        except IntegrityError as error:
            raise PlanOutdatedError(f"{target.table.name}: {_reason(error)}") from error
        except OperationalError as error:
            if error.orig is not None and error.orig.args[0] in COLLIDED:
                raise PlanOutdatedError(f"{target.table.name}: {_reason(error)}") from error
            raise


def replace(engine: sa.Engine, target: TableTarget, parts: Iterable[pl.DataFrame]) -> int:
    """Delete every record of the target and insert `parts`, inside one transaction.

    Returns:
        The number of records inserted.

    """
    count = 0
    with (
        explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"),
        writing(engine) as connection,
    ):
        connection.execute(sa.delete(target.table))
        for part in parts:
            insert(connection, target.table, part)
            count += part.height
    return count


def too_long(frame: pl.DataFrame, target: TableTarget, limits: dict[str, int]) -> list[SetAside]:
    """The values that the database's columns cannot hold, a record each."""
    found: list[SetAside] = []
    for name in target.values:
        limit = limits.get(name)
        if limit is None or frame.schema[name] != pl.String:
            continue
        rows = frame.filter(pl.col(name).str.len_chars() > limit)
        found += [
            SetAside(target.table.name, str(key), name, value[:40], f"is longer than {limit}")
            for key, value in rows.select(target.key[0], name).iter_rows()
        ]
    return found


def _update(connection: sa.Connection, target: TableTarget, changed: pl.DataFrame) -> None:
    """One statement a distinct change of values, for all the records that change so."""
    if changed.is_empty():
        return
    old = [OLD + v for v in target.values]
    key = target.key[0]  # only targets of a single key column have values that could change
    for values, rows in changed.partition_by(
        [*target.values, *old], as_dict=True, include_key=False
    ).items():
        new_values = dict(zip(target.values, values, strict=False))
        old_values = dict(zip(target.values, values[len(target.values) :], strict=True))
        for ids in _slices(rows[key]):
            statement = (
                sa.update(target.table)
                .where(target.table.c[key].in_(ids))
                .where(*(_is(target.table.c[v], was) for v, was in old_values.items()))
                .values(new_values)
            )
            _expect(connection.execute(statement), len(ids), target)


def _delete(connection: sa.Connection, target: TableTarget, removed: pl.DataFrame) -> None:
    """Delete by the column that names one record: the surrogate, or a single-column key."""
    name = target.surrogate or target.key[0]
    values = list(target.values)
    groups = removed.partition_by(values, as_dict=True) if values else {(): removed}
    for expected, rows in groups.items():
        for ids in _slices(rows[name]):
            statement = (
                sa.delete(target.table)
                .where(target.table.c[name].in_(ids))
                .where(
                    *(_is(target.table.c[v], was) for v, was in zip(values, expected, strict=True))
                )
            )
            _expect(connection.execute(statement), len(ids), target)


def _is(column: sa.ColumnElement[object], value: object) -> sa.ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def _expect(result: sa.CursorResult[tuple[object, ...]], count: int, target: TableTarget) -> None:
    if result.rowcount != count:
        raise PlanOutdatedError(
            f"{target.table.name}: {count - result.rowcount} of {count} records changed meanwhile"
        )


def _slices(keys: pl.Series) -> Iterator[list[int]]:
    for start in range(0, keys.len(), KEYS_A_STATEMENT):
        yield keys.slice(start, KEYS_A_STATEMENT).to_list()


def _reason(error: IntegrityError | OperationalError) -> str:
    return " ".join(str(error.orig).split())[:200]
