"""A recorded step only raises errors for people, so that no run ends in silence."""

import polars as pl
import pytest
import sqlalchemy as sa

from tis_sync.durable.recorded_step import step
from tis_sync.errors import LockedError, TisSyncError


class PanicException(BaseException):
    """As pyo3 raises it; each library written in Rust has a class of its own by this name."""


def test_a_panic_of_a_library_is_an_error_that_quotes_no_data() -> None:
    @step
    def fill_partition() -> None:
        raise PanicException("Could not convert 'Byrne'")

    with pytest.raises(TisSyncError, match="panicked in step fill partition") as raised:
        fill_partition()
    assert "Byrne" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_class_of_a_panic_has_this_name() -> None:
    assert pl.exceptions.PanicException.__name__ == PanicException.__name__


def test_the_end_of_the_process_is_not_an_error_of_a_step() -> None:
    @step
    def fill_partition() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_partition()


def test_a_locked_database_is_transient(tmp_path: object) -> None:
    @step
    def settle() -> None:
        url = f"sqlite:///{tmp_path}/x.sqlite"
        first, second = sa.create_engine(url), sa.create_engine(f"{url}?timeout=0")
        with first.connect() as one, second.connect() as other:
            one.exec_driver_sql("BEGIN IMMEDIATE")
            other.exec_driver_sql("BEGIN IMMEDIATE")

    with pytest.raises(LockedError) as raised:
        settle()
    assert raised.value.transient
