"""Pseudo-random columns: the same seed gives the same data."""

from dataclasses import dataclass
from datetime import date
from importlib.resources import files

import polars as pl

PEOPLE_A_POST = 4


@dataclass(frozen=True)
class Size:
    """How large a synthetic TCS is."""

    people: int
    seed: int = 1

    @property
    def posts(self) -> int:
        """A post for every four people."""
        return max(8, self.people // PEOPLE_A_POST)


class Draw:
    """Pseudo-random columns: each call hashes the row number with a seed of its own."""

    def __init__(self, seed: int) -> None:
        self.seed = seed * 1000

    def _hash(self) -> pl.Expr:
        self.seed += 1
        return pl.int_range(pl.len(), dtype=pl.Int64).hash(self.seed)

    def number(self, below: int) -> pl.Expr:
        """A whole number from 0 to before `below`."""
        return (self._hash() % below).cast(pl.Int64)

    def one_in(self, count: int) -> pl.Expr:
        """True for one row in `count`."""
        return self.number(count) == 0

    def pick(self, values: pl.Series) -> pl.Expr:
        """One of some values."""
        return pl.lit(values).gather(self.number(values.len()))

    def day(self, first: date, days: int) -> pl.Expr:
        """A day from `first` on."""
        return pl.lit(first) + pl.duration(days=self.number(days))

    def hexadecimal(self, digits: int) -> pl.Expr:
        """Decimal digits, which are hexadecimal ones too, padded with zeros."""
        return self.number(10**digits).cast(pl.String).str.zfill(digits)


def reference(name: str) -> pl.DataFrame:
    """Real names and codes: trusts, sites, grades or local_offices."""
    with (files("tis_sync.tcs") / "reference" / f"{name}.csv").open("rb") as file:
        return pl.read_csv(file.read())


def numbered(count: int) -> pl.DataFrame:
    """So many rows, with `id` from 1 on."""
    return pl.select(id=pl.int_range(1, count + 1, dtype=pl.Int64))


def lookup(values: pl.Series, index: str) -> pl.Expr:
    """The value at the one-based position that a column names."""
    return pl.lit(values).gather(pl.col(index) - 1)


def uuid(draw: Draw) -> pl.Expr:
    """A column of distinct texts of the form of a UUID."""
    groups = [draw.hexadecimal(n) for n in (4, 4, 4)]
    return pl.concat_str(
        pl.format("{}", pl.col("id").cast(pl.String).str.zfill(8)),
        *groups,
        draw.hexadecimal(12),
        separator="-",
    )
