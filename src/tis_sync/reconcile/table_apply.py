"""Apply a plan to a table of TCS, in transactions with optimistic concurrency control.

Updates and deletes name the values that the plan expects. If one affects fewer records than
planned, or if an insert finds that its record already exists, TCS has changed since the plan was
made: the transaction is rolled back, and `PlanOutdatedError` tells the caller to plan again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as replace_fields
from itertools import pairwise
from queue import SimpleQueue

import polars as pl
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.bulk import KEYS_PER_STATEMENT, insert
from tis_sync.db.database import Database
from tis_sync.db.named_locks import locked_write
from tis_sync.errors import LockedError, PlanOutdatedError
from tis_sync.reconcile.table_plan import OLD, Plan, TableSpec
from tis_sync.tcs.columns import comparable
from tis_sync.tcs.fit import SetAside
from tis_sync.tcs.key_ranges import KeyRange

ROWS_PER_TRANSACTION = 100_000
PARTS_AT_ONCE = 2  # the driver encodes the rows of one while the server stores those of the other


def apply(
    database: Database,
    spec: TableSpec,
    plan: Plan,
    before_commit: Callable[[], None],
    locks: Sequence[str],
) -> None:
    """Apply a plan.

    A plan that adds many records is split by key into parts, each in its own transaction, two at a
    time. The records of one key stay together.

    Args:
        database: TCS.
        spec: the table.
        plan: the plan.
        before_commit: called last in each transaction, which is rolled back if it raises.
        locks: names of locks; each transaction holds one, so as many run at a time.

    Raises:
        PlanOutdatedError: a record in the plan has changed in TCS.

    """
    free: SimpleQueue[str] = SimpleQueue()
    for lock in locks:
        free.put(lock)

    def apply_part(part: Plan) -> None:
        lock = free.get()
        try:
            _apply(database, spec, part, before_commit, lock)
        finally:
            free.put(lock)

    with ThreadPoolExecutor(len(locks), thread_name_prefix="apply") as threads:
        futures = [threads.submit(apply_part, part) for part in _cut(spec, plan)]
        for future in futures:
            future.result()


def _cut(spec: TableSpec, plan: Plan) -> Iterator[Plan]:
    """Split a plan by key ranges into parts of about `ROWS_PER_TRANSACTION` additions."""
    name = spec.partition_column.name
    keys = plan.added[name]
    cuts = keys.gather_every(ROWS_PER_TRANSACTION, ROWS_PER_TRANSACTION).unique().sort().to_list()
    for low, high in pairwise([None, *cuts, None]):
        inside = KeyRange(low, high).expression(name)
        yield replace_fields(
            plan,
            added=plan.added.filter(inside),
            changed=plan.changed.filter(inside),
            removed=plan.removed.filter(inside),
            duplicates=plan.duplicates.filter(inside),
        )


def _apply(
    database: Database, spec: TableSpec, plan: Plan, before_commit: Callable[[], None], lock: str
) -> None:
    if plan.is_empty:
        return
    try:
        with locked_write(database, lock) as connection:
            # Insert first, so that a reader without a snapshot sees too many records, not too few.
            insert(connection, spec.table, plan.added)
            _update(connection, spec, plan.changed)
            _delete(connection, spec, pl.concat([plan.removed, plan.duplicates]))
            before_commit()
    except IntegrityError as error:
        raise PlanOutdatedError(f"{spec.table.name}: {_reason(error)}") from error
    except LockedError as error:
        raise PlanOutdatedError(f"{spec.table.name}: {error}") from error


def replace(
    database: Database,
    spec: TableSpec,
    parts: Iterable[pl.DataFrame],
    before_commit: Callable[[], None],
    lock: str,
) -> None:
    """Replace all records of a table in one transaction.

    Args:
        database: TCS.
        spec: the table.
        parts: frames with the key and the values of the spec.
        before_commit: called last in the transaction, which is rolled back if it raises.
        lock: the name of the lock that the transaction holds.

    """
    with locked_write(database, lock) as connection:
        connection.execute(sa.delete(spec.table))
        for part in parts:
            insert(connection, spec.table, part)
        before_commit()


def too_long(frame: pl.DataFrame, spec: TableSpec, limits: dict[str, int]) -> list[SetAside]:
    """Find the records with a value that is too long for its column.

    Args:
        frame: the key and the values of the spec.
        spec: the table.
        limits: the maximum length of each column, in characters.

    """
    unfit: list[SetAside] = []
    for name in spec.values:
        limit = limits.get(name)
        if limit is None or frame.schema[name] != pl.String:
            continue
        rows = frame.filter(pl.col(name).str.len_chars() > limit)
        unfit += [
            SetAside(spec.table.name, str(key), name, value[:40], f"is longer than {limit}")
            for key, value in rows.select(spec.key[0], name).iter_rows()
        ]
    return unfit


def _update(connection: sa.Connection, spec: TableSpec, changed: pl.DataFrame) -> None:
    """Use one statement for all records that change from the same old to the same new values."""
    if changed.is_empty():
        return
    old_columns = [OLD + v for v in spec.values]
    key = spec.key[0]  # a table with values has a single key column
    for values, rows in changed.partition_by(
        [*spec.values, *old_columns], as_dict=True, include_key=False
    ).items():
        new_values = dict(zip(spec.values, values, strict=False))
        old_values = dict(zip(spec.values, values[len(spec.values) :], strict=True))
        for ids in _slices(rows[key]):
            statement = (
                sa.update(spec.table)
                .where(spec.table.c[key].in_(ids))
                .where(*(_is(spec.table.c[v], old) for v, old in old_values.items()))
                .values(new_values)
            )
            _expect(connection.execute(statement), len(ids), spec)


def _delete(connection: sa.Connection, spec: TableSpec, removed: pl.DataFrame) -> None:
    """Delete by the column that identifies one record: the surrogate, or the only key column."""
    name = spec.surrogate or spec.key[0]
    values = list(spec.values)
    groups = removed.partition_by(values, as_dict=True) if values else {(): removed}
    for expected, rows in groups.items():
        for ids in _slices(rows[name]):
            statement = (
                sa.delete(spec.table)
                .where(spec.table.c[name].in_(ids))
                .where(
                    *(_is(spec.table.c[v], old) for v, old in zip(values, expected, strict=True))
                )
            )
            _expect(connection.execute(statement), len(ids), spec)


def _is(column: sa.ColumnElement[object], value: object) -> sa.ColumnElement[bool]:
    """Whether a column has the value that the plan expects; plans know codes as they are read."""
    return column.is_(None) if value is None else comparable(column) == value


def _expect(result: sa.CursorResult[tuple[object, ...]], count: int, spec: TableSpec) -> None:
    if result.rowcount != count:
        raise PlanOutdatedError(
            f"{spec.table.name}: {count - result.rowcount} of {count} records have changed since "
            "the plan was made"
        )


def _slices(keys: pl.Series) -> Iterator[list[int]]:
    for start in range(0, keys.len(), KEYS_PER_STATEMENT):
        yield keys.slice(start, KEYS_PER_STATEMENT).to_list()


def _reason(error: IntegrityError) -> str:
    return " ".join(str(error.orig).split())[:200]
