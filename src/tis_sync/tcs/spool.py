"""What was read of a table in one scan, kept on disk, and taken out by key range.

A table that lies on the server's disk in another order than that of the keys which partitions are
cut by is slow to read by partition: each row is a jump. So it is read once, as it lies, sorted into
buckets of neighbouring keys here, and each partition takes its buckets from there: memory depends
on the partition, not on the table. The file has no name, so nothing is left of it when the process
ends, however it ends.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import polars as pl

from tis_sync.errors import StorageFullError
from tis_sync.tcs.read import KeyRange

KEYS_A_BUCKET = 50_000  # partitions are some hundred thousand keys wide
BUCKET = "_bucket"


class Spool:
    """Rows on disk, by key.

    Args:
        folder: where the file lies.
        key: the integer column that key ranges are of.
        schema: the columns that are taken out.

    """

    def __init__(self, folder: Path, key: str, schema: dict[str, pl.DataType]) -> None:
        self._folder = folder
        with self._storage():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  lives as long as this
        self._key = key
        self._schema = schema
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._end = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Put rows in: the columns of the schema and the key; those without a key are left out.

        Raises:
            StorageFullError: they cannot be kept.

        """
        parts = (
            rows.filter(pl.col(self._key).is_not_null())
            .with_columns((pl.col(self._key) // KEYS_A_BUCKET).alias(BUCKET))
            .partition_by(BUCKET, as_dict=True, include_key=False)
        )
        with self._storage():
            for (bucket,), part in parts.items():
                data = BytesIO()
                part.write_ipc_stream(data)
                length = self._file.write(data.getbuffer())
                self._places[bucket].append((self._end, length))
                self._end += length
            self._file.flush()

    def take(self, keys: KeyRange) -> pl.DataFrame:
        """The rows of a key range; may be asked for again, and by several threads at once."""
        columns = list(self._schema)
        found = [pl.DataFrame(schema=self._schema)]
        inside = keys.expression(self._key)
        for bucket in sorted(self._places):
            mine = KeyRange(bucket * KEYS_A_BUCKET, (bucket + 1) * KEYS_A_BUCKET)
            if not keys.touches(mine):
                continue
            for start, length in self._places[bucket]:
                data = os.pread(self._file.fileno(), length, start)
                part = pl.read_ipc_stream(BytesIO(data))
                found.append((part if mine in keys else part.filter(inside)).select(columns))
        return pl.concat(found)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Turn a disk that takes no more into an error for people."""
        try:
            yield
        except OSError as error:
            raise StorageFullError(
                f"What was read of TCS cannot be kept in {self._folder} ({error.strerror}); make "
                "room there, or set TIS_SYNC_HOME to another folder."
            ) from error
