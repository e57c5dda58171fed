"""Plans, chunks and partitions agree with naive references."""

from collections.abc import Sequence

import polars as pl
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.world import World
from tis_sync.reconcile.table_plan import Plan, TableSpec, difference
from tis_sync.search.bulk import cut, encode
from tis_sync.search.model import KEYS_PER_BUCKET
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import key_ranges

ids = st.one_of(st.integers(0, 4), st.integers(-(2**40), 2**62))
pairs = st.tuples(ids, st.integers(0, 3))
texts = st.one_of(st.none(), st.sampled_from(["a", "b"]))
PAIRS = TableSpec(t.PersonTrust, ("personId", "trustId"), (), t.PersonTrust.c.personId, "id")
VALUES = TableSpec(t.PersonOwner, ("id",), ("owner", "rule"), t.PersonOwner.c.id)


def frame(rows: Sequence[tuple[int, ...]], *columns: str) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")


@given(
    desired=st.sets(pairs, max_size=6),
    present=st.lists(pairs, max_size=8),
    allowed=st.sets(pairs, max_size=3),
)
def test_a_plan_of_pairs_turns_the_existing_pairs_into_the_desired_ones(
    desired: set[tuple[int, int]], present: list[tuple[int, int]], allowed: set[tuple[int, int]]
) -> None:
    existing = [(*pair, number) for number, pair in enumerate(present)]
    plan = difference(
        PAIRS,
        frame(list(desired), "personId", "trustId"),
        frame(existing, "personId", "trustId", "id"),
        frame(list(allowed), "personId", "trustId"),
    )
    deleted = [row[2] for row in pl.concat([plan.removed, plan.duplicates]).rows()]
    assert len(deleted) == len(set(deleted))
    left = [row[:2] for row in existing if row[2] not in deleted] + plan.added.rows()
    assert sorted(left) == sorted(desired | (set(present) & allowed))
    assert (plan.considered, plan.existing) == (len(desired), len(set(present)))
    assert plan.is_empty == (sorted(present) == sorted(desired | (set(present) & allowed)))
    kept = {row[:2]: row[2] for row in reversed(existing)}
    assert not set(kept.values()) & set(plan.duplicates["id"])


@given(
    desired=st.dictionaries(st.integers(0, 5), st.tuples(texts, texts), max_size=6),
    present=st.dictionaries(st.integers(0, 5), st.tuples(texts, texts), max_size=6),
)
def test_a_plan_of_values_changes_only_what_differs(
    desired: dict[int, tuple[str | None, str | None]],
    present: dict[int, tuple[str | None, str | None]],
) -> None:
    def rows(records: dict[int, tuple[str | None, str | None]]) -> pl.LazyFrame:
        schema = {"id": pl.Int64, "owner": pl.String, "rule": pl.String}
        return pl.LazyFrame([(k, *v) for k, v in records.items()], schema=schema, orient="row")

    plan = difference(VALUES, rows(desired), rows(present))
    result = {k: v for k, v in present.items() if k not in set(plan.removed["id"])}
    result |= {row[0]: row[1:] for row in plan.added.rows()}
    for key, owner, rule, old_owner, old_rule in plan.changed.rows():
        assert present[key] == (old_owner, old_rule) != (owner, rule)
        result[key] = (owner, rule)
    assert result == desired
    emptied = sum(
        present.get(k, (None, None)) != (None, None) and v == (None, None)
        for k, v in desired.items()
    )
    assert plan.emptied(VALUES.values).height == emptied


def test_a_columns_only_plan_never_inserts_or_removes() -> None:
    spec = TableSpec(t.Person, ("id",), ("status",), t.Person.c.id, columns_only=True)
    schema = {"id": pl.Int64, "status": pl.String}
    desired = pl.LazyFrame({"id": [1, 2], "status": ["CURRENT"] * 2}, schema=schema)
    present = pl.LazyFrame({"id": [2, 3], "status": [None, "DELETE"]}, schema=schema)
    plan: Plan = difference(spec, desired, present)
    assert plan.added.is_empty()
    assert plan.removed.is_empty()
    assert plan.changed.rows() == [(2, "CURRENT", None)]


@given(
    bodies=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40)),
    limit=st.integers(60, 400),
)
def test_chunks_contain_every_document_in_order_within_the_limit(
    bodies: list[str], limit: int
) -> None:
    documents = pl.DataFrame(
        {"id": [str(n) for n in range(len(bodies))], "body": bodies},
        schema={"id": pl.String, "body": pl.String},
    )
    chunks = list(cut(documents, limit))
    assert [row for chunk in chunks for row in chunk.rows()] == documents.rows()
    for chunk in chunks:
        assert len(encode(chunk)) <= limit or chunk.height == 1
    joined = b"".join(encode(chunk) for chunk in chunks).decode().split("\n")
    assert joined[1::2] == bodies


@given(keys=st.sets(st.integers(1, 500), max_size=20), width=st.integers(1, 200))
def test_partitions_cover_every_key_once_and_start_at_bucket_boundaries(
    embedded_tcs: World, keys: set[int], width: int
) -> None:
    embedded_tcs.fill({"Person": [{"id": key} for key in keys]})
    ranges = key_ranges(embedded_tcs.database, [t.Person.c.id], width, multiple_of=KEYS_PER_BUCKET)
    assert ranges[0].low is None
    assert ranges[-1].high is None
    found: list[int] = []
    with embedded_tcs.database.read() as connection:
        for one in ranges:
            assert one.low is None or one.low % KEYS_PER_BUCKET == 0
            within = sa.select(t.Person.c.id).where(one.clause(t.Person.c.id))
            found += connection.scalars(within).all()
    assert sorted(found) == sorted(keys)
