"""Plan the changes of a table: the difference between the desired and the existing records."""

from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

JOIN_KEY = "_join_key"
# A pair of keys fits into 63 bits if the first is below 2**39 and the second below 2**24.
FIRST_BELOW, SECOND_BELOW = 2**39, 2**24
OLD = "old_"  # prefix of the columns with the values that the plan expects in the database


@dataclass(frozen=True)
class TableSpec:
    """A table, or columns of a table, that a job keeps correct.

    Attributes:
        table: the TCS table that is written.
        key: the integer columns that identify a record; one or two.
        values: the columns that the job sets. Empty: a record consists of its key only.
        partition_column: the key column by which the table is partitioned.
        surrogate: a column that distinguishes records with the same key. None: the key is unique.
        columns_only: only set `values` of existing records; never insert or remove records.
        removes: whether to remove records that are neither desired nor allowed.

    """

    table: sa.Table
    key: tuple[str, ...]
    values: tuple[str, ...]
    partition_column: sa.Column[int]
    surrogate: str | None = None
    columns_only: bool = False
    removes: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the table that the job reads or writes."""
        extra = () if self.surrogate is None else (self.surrogate,)
        return (*self.key, *self.values, *extra)


@dataclass(frozen=True)
class Plan:
    """The changes that turn the existing records into the desired ones.

    Attributes:
        added: records to insert: key and values.
        changed: records to update: key, values, and the expected old values with the prefix `old_`.
        removed: records to delete: the columns of the spec, with the expected old values.
        duplicates: surplus records of a key, which are also deleted: the columns of the spec.
        considered: the number of desired records.
        existing: the number of existing records, without duplicates.

    """

    added: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame
    duplicates: pl.DataFrame
    considered: int
    existing: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.added.height
            or self.changed.height
            or self.removed.height
            or self.duplicates.height
        )

    def emptied(self, values: tuple[str, ...]) -> pl.DataFrame:
        """The changes that remove the last value of a record."""
        if not values:
            return self.changed.clear()
        return self.changed.filter(
            pl.all_horizontal(pl.col(v).is_null() for v in values)
            & pl.any_horizontal(pl.col(OLD + v).is_not_null() for v in values)
        )

    def lost(self, spec: TableSpec) -> pl.DataFrame:
        """The keys of the records that the guard counts: removed, emptied or, in a column, changed.

        Returns:
            The key columns of the spec.

        """
        changed = self.changed if spec.columns_only else self.emptied(spec.values)
        return pl.concat([self.removed.select(spec.key), changed.select(spec.key)])


def difference(
    spec: TableSpec,
    desired: pl.LazyFrame,
    existing: pl.LazyFrame,
    allowed: pl.LazyFrame | None = None,
) -> Plan:
    """Plan the changes that turn the existing records into the desired ones.

    Args:
        spec: the table.
        desired: the key and the values, as columns; each key at most once.
        existing: the `columns` of the spec. If the spec has a surrogate, a key may occur several
            times; all but the record with the smallest surrogate are duplicates.
        allowed: keys that may stay although they are not desired. None: there are none.

    """
    present, target = existing.collect(), desired.collect()
    tolerated = present.clear() if allowed is None else allowed.collect()
    join_key = _join_key(spec.key, [present, target, tolerated]).alias(JOIN_KEY)
    present, target = present.with_columns(join_key), target.with_columns(join_key)
    duplicates = present.clear()
    if spec.surrogate is not None:
        present = present.sort(JOIN_KEY, spec.surrogate)
        repeated = (pl.col(JOIN_KEY) == pl.col(JOIN_KEY).shift()).fill_null(False)
        mask = present.select(repeated).to_series()
        duplicates, present = present.filter(mask), present.filter(~mask)
    added = target.join(present, on=JOIN_KEY, how="anti")
    removed = present.clear()
    if spec.removes:
        removed = present.join(target, on=JOIN_KEY, how="anti")
        removed = removed.join(tolerated.select(join_key), on=JOIN_KEY, how="anti")
    if spec.columns_only:
        added, removed = added.clear(), removed.clear()
    columns, record = list(spec.columns), [*spec.key, *spec.values]
    return Plan(
        added.select(record).sort(spec.key),
        _changed(spec, target, present),
        removed.select(columns),
        duplicates.select(columns),
        target.height,
        present.height,
    )


def _changed(spec: TableSpec, target: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """The records with a value that differs: key, values, and old values with the prefix `old_`."""
    values, old = list(spec.values), [OLD + v for v in spec.values]
    differs = pl.any_horizontal(
        pl.lit(False), *(pl.col(v).ne_missing(pl.col(OLD + v)) for v in values)
    )
    if not values:
        return target.clear().select(spec.key)
    old_values = present.select(JOIN_KEY, *(pl.col(v).alias(OLD + v) for v in values))
    return target.join(old_values, on=JOIN_KEY).filter(differs).select([*spec.key, *values, *old])


def _join_key(key: tuple[str, ...], frames: list[pl.DataFrame]) -> pl.Expr:
    """Combine the key in one column, because joins and sorts on one integer are much faster.

    Pairs become integers if all of them fit, as real ids do; otherwise they become strings.
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
