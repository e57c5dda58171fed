"""Plans, chunks and partitions, against naive references."""

from collections.abc import Sequence

import polars as pl
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.world import World
from tis_sync.reconcile.partitions import partitions
from tis_sync.reconcile.plan import Plan, TableTarget, difference
from tis_sync.search.bulk import cut, encode
from tis_sync.search.model import KEYS_A_BUCKET
from tis_sync.tcs import tables as t

ids = st.one_of(st.integers(0, 4), st.integers(-(2**40), 2**62))
pairs = st.tuples(ids, st.integers(0, 3))
texts = st.one_of(st.none(), st.sampled_from(["a", "b"]))
PAIRS = TableTarget(t.PersonTrust, ("personId", "trustId"), (), t.PersonTrust.c.personId, "id")
VALUES = TableTarget(t.PersonOwner, ("id",), ("owner", "rule"), t.PersonOwner.c.id)


def frame(rows: Sequence[tuple[int, ...]], *columns: str) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")


@given(
    wanted=st.sets(pairs, max_size=6),
    there=st.lists(pairs, max_size=8),
    allowed=st.sets(pairs, max_size=3),
)
def test_a_plan_of_pairs_leads_from_what_is_there_to_what_is_wanted(
    wanted: set[tuple[int, int]], there: list[tuple[int, int]], allowed: set[tuple[int, int]]
) -> None:
    existing = [(*pair, number) for number, pair in enumerate(there)]
    plan = difference(
        PAIRS,
        frame(list(wanted), "personId", "trustId"),
        frame(existing, "personId", "trustId", "id"),
        frame(list(allowed), "personId", "trustId"),
    )
    gone = [row[2] for row in pl.concat([plan.removed, plan.duplicates]).rows()]
    assert len(gone) == len(set(gone))
    left = [row[:2] for row in existing if row[2] not in gone] + plan.added.rows()
    assert sorted(left) == sorted(wanted | (set(there) & allowed))
    assert (plan.considered, plan.existing) == (len(wanted), len(set(there)))
    assert plan.is_empty == (sorted(there) == sorted(wanted | (set(there) & allowed)))
    kept = {row[:2]: row[2] for row in reversed(existing)}
    assert not set(kept.values()) & set(plan.duplicates["id"])


@given(
    wanted=st.dictionaries(st.integers(0, 5), st.tuples(texts, texts), max_size=6),
    there=st.dictionaries(st.integers(0, 5), st.tuples(texts, texts), max_size=6),
)
def test_a_plan_of_values_changes_only_what_differs(
    wanted: dict[int, tuple[str | None, str | None]],
    there: dict[int, tuple[str | None, str | None]],
) -> None:
    def rows(records: dict[int, tuple[str | None, str | None]]) -> pl.LazyFrame:
        schema = {"id": pl.Int64, "owner": pl.String, "rule": pl.String}
        return pl.LazyFrame([(k, *v) for k, v in records.items()], schema=schema, orient="row")

    plan = difference(VALUES, rows(wanted), rows(there))
    result = {k: v for k, v in there.items() if k not in set(plan.removed["id"])}
    result |= {row[0]: row[1:] for row in plan.added.rows()}
    for key, owner, rule, old_owner, old_rule in plan.changed.rows():
        assert there[key] == (old_owner, old_rule) != (owner, rule)
        result[key] = (owner, rule)
    assert result == wanted
    emptied = sum(
        there.get(k, (None, None)) != (None, None) and v == (None, None) for k, v in wanted.items()
    )
    assert plan.emptied(VALUES.values) == emptied


def test_columns_only_never_inserts_or_removes() -> None:
    target = TableTarget(t.Person, ("id",), ("status",), t.Person.c.id, columns_only=True)
    schema = {"id": pl.Int64, "status": pl.String}
    wanted = pl.LazyFrame({"id": [1, 2], "status": ["CURRENT"] * 2}, schema=schema)
    there = pl.LazyFrame({"id": [2, 3], "status": [None, "DELETE"]}, schema=schema)
    plan: Plan = difference(target, wanted, there)
    assert plan.added.is_empty()
    assert plan.removed.is_empty()
    assert plan.changed.rows() == [(2, "CURRENT", None)]


@given(
    bodies=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40)),
    limit=st.integers(60, 400),
)
def test_chunks_hold_every_document_in_order_within_the_limit(
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
def test_partitions_cover_every_key_once_and_begin_at_whole_buckets(
    embedded_tcs: World, keys: set[int], width: int
) -> None:
    embedded_tcs.fill({"Person": [{"id": key} for key in keys]})
    ranges = partitions(embedded_tcs.engine, [t.Person.c.id], width)
    assert ranges[0].low is None
    assert ranges[-1].high is None
    found: list[int] = []
    with embedded_tcs.engine.connect() as connection:
        for one in ranges:
            assert one.low is None or one.low % KEYS_A_BUCKET == 0
            within = sa.select(t.Person.c.id).where(one.clause(t.Person.c.id))
            found += connection.scalars(within).all()
    assert sorted(found) == sorted(keys)
