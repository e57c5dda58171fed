"""The difference between the records that should exist and those that do: a plan."""

from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

JOIN_KEY = "_join_key"
# A pair of keys fits into 63 bits while the first is below 2**39 and the second below 2**24.
FIRST_BELOW, SECOND_BELOW = 2**39, 2**24
OLD = "old_"  # prefix of the columns that hold what the plan expects to find


@dataclass(frozen=True)
class TableTarget:
    """A table, or columns of one, that a job keeps right.

    Attributes:
        table: the TCS table that is written.
        key: columns that identify a record; integers.
        values: columns that the job decides; empty: the key alone is the record.
        by: the key column that partitions are cut by.
        surrogate: a column that tells records of the same key apart; None: the key is unique.
        columns_only: only `values` of records that exist are ours; never insert or remove.
        removes: whether records that are neither desired nor allowed go.

    """

    table: sa.Table
    key: tuple[str, ...]
    values: tuple[str, ...]
    by: sa.Column[int]
    surrogate: str | None = None
    columns_only: bool = False
    removes: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """All the columns of the table that the job reads back or writes."""
        extra = () if self.surrogate is None else (self.surrogate,)
        return (*self.key, *self.values, *extra)


@dataclass(frozen=True)
class Plan:
    """What to do to a target so that it is as desired.

    Attributes:
        added: records to insert: key and values.
        changed: records to update: key, values, and the values expected there, prefixed `old_`.
        removed: records to delete: the columns of the target, values as expected there.
        duplicates: surplus records of a key, to delete too: the columns of the target.
        considered: records that should exist, by count.
        existing: records that did exist, without duplicates, by count.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame
    duplicates: pl.DataFrame
    considered: int
    existing: int

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return not (
            self.added.height
            or self.changed.height
            or self.removed.height
            or self.duplicates.height
        )

    def emptied(self, values: tuple[str, ...]) -> int:
        """How many changes take away the last value of a record that had one."""
        if not values:
            return 0
        return self.changed.filter(
            pl.all_horizontal(pl.col(v).is_null() for v in values)
            & pl.any_horizontal(pl.col(OLD + v).is_not_null() for v in values)
        ).height


def difference(
    target: TableTarget,
    desired: pl.LazyFrame,
    existing: pl.LazyFrame,
    allowed: pl.LazyFrame | None = None,
) -> Plan:
    """Plan the way from `existing` to `desired`.

    Args:
        target: what is compared: its key and values.
        desired: what should exist: key and values, a key at most once.
        existing: what does exist: the target's `columns`; a key may stand several times where the
            target has a surrogate, and then all but the smallest surrogate are duplicates.
        allowed: keys that may stay although not desired.

    """
    there, wanted = existing.collect(), desired.collect()
    may_stay = there.clear() if allowed is None else allowed.collect()
    joined = _join_key(target.key, [there, wanted, may_stay]).alias(JOIN_KEY)
    there, wanted = there.with_columns(joined), wanted.with_columns(joined)
    duplicates = there.clear()
    if target.surrogate is not None:
        there = there.sort(JOIN_KEY, target.surrogate)
        repeated = (pl.col(JOIN_KEY) == pl.col(JOIN_KEY).shift()).fill_null(False)
        mask = there.select(repeated).to_series()
        duplicates, there = there.filter(mask), there.filter(~mask)
    added = wanted.join(there, on=JOIN_KEY, how="anti")
    removed = there.clear()
    if target.removes:
        removed = there.join(wanted, on=JOIN_KEY, how="anti")
        removed = removed.join(may_stay.select(joined), on=JOIN_KEY, how="anti")
    if target.columns_only:
        added, removed = added.clear(), removed.clear()
    columns, record = list(target.columns), [*target.key, *target.values]
    return Plan(
        added.select(record).sort(target.key),
        _changed(target, wanted, there),
        removed.select(columns),
        duplicates.select(columns),
        wanted.height,
        there.height,
    )


def _changed(target: TableTarget, wanted: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    """The records of which a value differs: key, values, and the values there prefixed `old_`."""
    values, old = list(target.values), [OLD + v for v in target.values]
    differs = pl.any_horizontal(
        pl.lit(False), *(pl.col(v).ne_missing(pl.col(OLD + v)) for v in values)
    )
    if not values:
        return wanted.clear().select(target.key)
    held = there.select(JOIN_KEY, *(pl.col(v).alias(OLD + v) for v in values))
    return wanted.join(held, on=JOIN_KEY).filter(differs).select([*target.key, *values, *old])


def _join_key(key: tuple[str, ...], frames: list[pl.DataFrame]) -> pl.Expr:
    """One column that stands for the whole key: joins and sorts on one integer are far faster.

    A pair becomes one integer where all of them fit, as real ids do; otherwise a text.
    """
    if len(key) == 1:
        return pl.col(key[0])
    first, second = key
    fits = all(
        frame.select(
            (pl.col(first).is_between(0, FIRST_BELOW - 1)).all()
            & pl.col(second).is_between(0, SECOND_BELOW - 1).all()
        ).item()
        for frame in frames
    )
    if fits:
        return pl.col(first) * SECOND_BELOW + pl.col(second)
    return pl.concat_str(first, second, separator="/")
