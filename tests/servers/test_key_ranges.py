"""Key ranges: their number depends on the keys, not on the distance between them."""

from itertools import pairwise

import pytest

from tests.world import World
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange, key_ranges

pytestmark = pytest.mark.servers
PERSON, PLACEMENT = t.Person.c.id, t.Placement.c.traineeId
FAR = 9_000_000_000


def people(tcs: World, *keys: int) -> None:
    tcs.fill({"Person": [{"id": key} for key in keys]})


def covered(ranges: list[KeyRange], key: int) -> int:
    return sum(KeyRange(key, key + 1) in keys for keys in ranges)


def test_one_key_far_from_the_others_costs_one_range(tcs: World) -> None:
    people(tcs, *range(1, 31), FAR)
    ranges = key_ranges(tcs.database, [PERSON], width=10, multiple_of=5)
    assert len(ranges) <= 5
    assert ranges[0].low is None
    assert ranges[-1].high is None
    assert all(one.high == other.low for one, other in pairwise(ranges))
    assert all(keys.low is None or keys.low % 10 == 0 for keys in ranges)
    for key in (-5, 1, 10, 30, 31, 500, FAR, FAR + 1):
        assert covered(ranges, key) == 1
    for keys in ranges:
        assert sum(KeyRange(key, key + 1) in keys for key in range(1, 31)) <= 20


def test_keys_that_are_all_far_from_each_other_share_ranges(tcs: World) -> None:
    people(tcs, *(number * 10_000_000 for number in range(40)))
    assert len(key_ranges(tcs.database, [PERSON], width=10)) == 4
    people(tcs, *(number * 10_000_000 for number in range(9)))
    assert key_ranges(tcs.database, [PERSON], width=10) == [ALL_KEYS]


def test_a_null_and_the_keys_of_another_column_are_counted_too(tcs: World) -> None:
    tcs.fill(
        {
            "Person": [{"id": 1}, {"id": FAR}],
            "Placement": [{"id": key, "traineeId": key} for key in range(1, 41)]
            + [{"id": 99, "traineeId": None}],
        }
    )
    ranges = key_ranges(tcs.database, [PERSON, PLACEMENT], width=10)
    assert 4 <= len(ranges) <= 6
    assert covered(ranges, FAR) == covered(ranges, 1) == covered(ranges, 40) == 1
