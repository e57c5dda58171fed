"""A spool returns each row of a key range once, and no others."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_sync.errors import StorageFullError
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange
from tis_sync.tcs.spool import KEYS_PER_BUCKET, Spool

SCHEMA: dict[str, pl.DataType] = {"id": pl.Int64(), "name": pl.String()}
keys_of_people = st.none() | st.integers(-5, 4 * KEYS_PER_BUCKET)
rows = st.lists(
    st.tuples(st.integers(0, 9), st.none() | st.text(max_size=5), keys_of_people), max_size=12
)
bounds = st.none() | st.integers(-10, 4 * KEYS_PER_BUCKET + 10) | st.just(KEYS_PER_BUCKET)


@given(parts=st.lists(rows, max_size=4), low=bounds, high=bounds)
def test_a_range_returns_exactly_its_rows(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[list[tuple[int, str | None, int | None]]],
    low: int | None,
    high: int | None,
) -> None:
    spool = Spool(tmp_path_factory.getbasetemp(), "person", SCHEMA)
    for part in parts:
        frame = pl.DataFrame(part, schema={**SCHEMA, "person": pl.Int64}, orient="row")
        spool.add(frame)
    found = spool.take(KeyRange(low, high))
    assert dict(found.schema) == SCHEMA
    expected = [
        (number, name)
        for part in parts
        for number, name, person in part
        if person is not None and (low is None or person >= low) and (high is None or person < high)
    ]
    assert sorted(found.rows(), key=repr) == sorted(expected, key=repr)


def test_no_file_is_visible_in_the_folder_even_while_the_spool_is_in_use(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "id", SCHEMA)
    spool.add(pl.DataFrame({"id": [1, 2], "name": ["a", None]}))
    assert spool.take(KeyRange(2, None)).rows() == [(2, None)]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_folder_that_cannot_be_used_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFullError, match=r"cannot be kept in .*file.*TIS_SYNC_HOME"):
        Spool(tmp_path / "file", "id", SCHEMA)


def test_a_range_contains_or_overlaps_another() -> None:
    everything, some = ALL_KEYS, KeyRange(10, 20)
    assert some in everything
    assert everything not in some
    assert KeyRange(10, 15) in some
    assert KeyRange(9, 15) not in some
    assert some.overlaps(KeyRange(19, None))
    assert not some.overlaps(KeyRange(20, None))
    assert not some.overlaps(KeyRange(None, 10))
