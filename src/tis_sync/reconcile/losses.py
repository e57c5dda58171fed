"""Losses: the records that the plans of a run would remove, as they were judged by the guard.

Plans are kept in memory, so a plan may have to be made again: after a crash, a takeover, or a
change in TCS. The losses are kept in the state database, by partition, so that a plan made again is
judged together with the losses of all other partitions, and so that an approval covers the records
that a person was shown, and no others. Only hashes of keys are kept.
"""

from io import BytesIO

import polars as pl
import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.state import tables as t
from tis_sync.tcs.key_ranges import KeyRange

NOTHING = pl.Series("key", [], dtype=pl.UInt64)


def hashes(keys: pl.DataFrame) -> pl.Series:
    """The hashes of keys (UInt64).

    Args:
        keys: the key columns of the records that are lost.

    """
    if keys.is_empty():
        return NOTHING
    return keys.select(key=pl.struct(pl.all()).hash(seed=0)).to_series()


class Losses:
    """The judged losses of runs.

    Args:
        state: the state database.

    """

    def __init__(self, state: Database) -> None:
        self._state = state

    def unapproved(self, lost: pl.Series, approved_run: str | None) -> int:
        """How many of these losses (hashes of keys) were not shown in the approved run."""
        if approved_run is None or lost.is_empty():
            return lost.len()
        return lost.len() - int(lost.is_in(self._keys(approved_run).implode()).sum())

    def record(self, run_id: str, keys: KeyRange, lost: pl.Series, unapproved: int) -> int:
        """Record the losses of a partition in place of its earlier ones.

        Returns:
            The unapproved losses of all partitions of the run.

        """
        partition = "" if keys.low is None else str(keys.low)
        with self._state.write() as connection:
            # Partitions of one run are judged one after another.
            connection.execute(sa.select(t.run.c.id).where(t.run.c.id == run_id).with_for_update())
            connection.execute(
                sa.delete(t.loss).where(t.loss.c.run_id == run_id, t.loss.c.partition == partition)
            )
            if not lost.is_empty():
                packed = BytesIO()
                lost.to_frame().write_ipc_stream(packed, compression="zstd")
                connection.execute(
                    sa.insert(t.loss).values(
                        run_id=run_id,
                        partition=partition,
                        records=unapproved,
                        key_hashes=packed.getvalue(),
                    )
                )
            total = sa.select(sa.func.sum(t.loss.c.records)).where(t.loss.c.run_id == run_id)
            return int(connection.scalar(total) or 0)

    def forget(self, run_id: str) -> None:
        """Delete the losses of a run."""
        with self._state.write() as connection:
            connection.execute(sa.delete(t.loss).where(t.loss.c.run_id == run_id))

    def forget_job(self, job: str) -> None:
        """Delete the losses of all runs of a job, but not of runs for a past day.

        Nothing else of it is held any more.
        """
        runs = sa.select(t.run.c.id).where(t.run.c.job == job, ~t.run.c.past_day)
        with self._state.write() as connection:
            connection.execute(sa.delete(t.loss).where(t.loss.c.run_id.in_(runs)))

    def _keys(self, run_id: str) -> pl.Series:
        statement = sa.select(t.loss.c.key_hashes).where(t.loss.c.run_id == run_id)
        with self._state.read() as connection:
            found = [
                pl.read_ipc_stream(BytesIO(packed))["key"]
                for packed in connection.scalars(statement)
            ]
        return pl.concat([NOTHING, *found])
