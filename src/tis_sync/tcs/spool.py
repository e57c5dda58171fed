"""Spool: the rows of a table in a temporary file on disk, read back by key range.

A table that is not clustered on the partition key costs one random read per row if it is read by
partition. So it is read once, in its order on disk, and sorted into buckets of neighbouring keys in
a temporary file. Each partition then takes its buckets from the file, so memory depends on the
partition, not on the table. The file has no name, so nothing of it remains when the process ends,
even if the process is killed.
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
from tis_sync.tcs.key_ranges import KeyRange

KEYS_PER_BUCKET = 50_000  # partitions are a few hundred thousand keys wide
BUCKET = "_bucket"


class Spool:
    """Rows of one table, by key.

    Args:
        folder: the folder in which the file is created.
        key: the integer column that key ranges refer to.
        schema: the columns that are read back, with their types.

    """

    def __init__(self, folder: Path, key: str, schema: dict[str, pl.DataType]) -> None:
        self._folder = folder
        with self._storage():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  as long as the spool
        self._key = key
        self._schema = schema
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._end = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows; those without a key are left out.

        Args:
            rows: a frame with the columns of the schema and the key.

        Raises:
            StorageFullError: the disk is full.

        """
        parts = (
            rows.filter(pl.col(self._key).is_not_null())
            .with_columns((pl.col(self._key) // KEYS_PER_BUCKET).alias(BUCKET))
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
        """The rows of a key range, with the columns of the schema; safe to call from any thread."""
        columns = list(self._schema)
        parts = [pl.DataFrame(schema=self._schema)]
        inside = keys.expression(self._key)
        for bucket in sorted(self._places):
            bucket_keys = KeyRange(bucket * KEYS_PER_BUCKET, (bucket + 1) * KEYS_PER_BUCKET)
            if not keys.overlaps(bucket_keys):
                continue
            for start, length in self._places[bucket]:
                data = os.pread(self._file.fileno(), length, start)
                part = pl.read_ipc_stream(BytesIO(data))
                rows = part if bucket_keys in keys else part.filter(inside)
                parts.append(rows.select(columns))
        return pl.concat(parts)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Translate the errors of a full disk.

        Raises:
            StorageFullError: the disk of the folder is full, or the folder cannot be used.

        """
        try:
            yield
        except OSError as error:
            raise StorageFullError(
                f"Rows of TCS cannot be kept in {self._folder} ({error.strerror}); free some space "
                "there, or set TIS_SYNC_HOME to a folder on another disk."
            ) from error
