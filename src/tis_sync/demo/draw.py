"""Pseudo-random columns for synthetic data; the same seed gives the same data."""

from dataclasses import dataclass
from datetime import date
from importlib.resources import files

import polars as pl

PEOPLE_PER_POST = 4


@dataclass(frozen=True)
class Size:
    """The size of a synthetic TCS.

    Attributes:
        people: the number of persons; everything else is in proportion.
        seed: a different seed gives different data.

    """

    people: int
    seed: int = 1

    @property
    def posts(self) -> int:
        """The number of posts: one for every four people, and at least eight."""
        return max(8, self.people // PEOPLE_PER_POST)


class Draw:
    """Pseudo-random columns; each call hashes the row number with a new seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed * 1000

    def _hash(self) -> pl.Expr:
        self.seed += 1
        return pl.int_range(pl.len(), dtype=pl.Int64).hash(self.seed)

    def number(self, below: int) -> pl.Expr:
        """A whole number from 0 up to, but not including, `below`."""
        return (self._hash() % below).cast(pl.Int64)

    def one_in(self, count: int) -> pl.Expr:
        """True for one row in `count`."""
        return self.number(count) == 0

    def pick(self, values: pl.Series) -> pl.Expr:
        """One of the given values."""
        return pl.lit(values).gather(self.number(values.len()))

    def day(self, first: date, days: int) -> pl.Expr:
        """One of the `days` days that begin with `first`."""
        return pl.lit(first) + pl.duration(days=self.number(days))

    def hexadecimal(self, digits: int) -> pl.Expr:
        """Digits, padded with zeros; decimal digits only, which are valid hexadecimal."""
        return self.number(10**digits).cast(pl.String).str.zfill(digits)


def reference(name: str) -> pl.DataFrame:
    """Load reference data: real names and codes.

    Args:
        name: trusts, sites, grades or local_offices.

    """
    with (files("tis_sync.demo") / "reference" / f"{name}.csv").open("rb") as file:
        return pl.read_csv(file.read())


def numbered(count: int) -> pl.DataFrame:
    """A frame of `count` rows, whose column `id` counts from 1."""
    return pl.select(id=pl.int_range(1, count + 1, dtype=pl.Int64))


def lookup(values: pl.Series, index: str) -> pl.Expr:
    """The value at the position in the column `index`, counted from 1."""
    return pl.lit(values).gather(pl.col(index) - 1)


def uuid(draw: Draw) -> pl.Expr:
    """A column of distinct strings in the form of UUIDs."""
    groups = [draw.hexadecimal(n) for n in (4, 4, 4)]
    return pl.concat_str(
        pl.format("{}", pl.col("id").cast(pl.String).str.zfill(8)),
        *groups,
        draw.hexadecimal(12),
        separator="-",
    )
