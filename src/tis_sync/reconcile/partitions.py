"""Cut the keys of a job into ranges of a fixed width, each planned and applied on its own."""

from collections.abc import Iterable

import sqlalchemy as sa

from tis_sync.search.model import KEYS_A_BUCKET
from tis_sync.tcs.read import KeyRange
from tis_sync.tcs.spans import spans


def partitions(engine: sa.Engine, columns: Iterable[sa.Column[int]], width: int) -> list[KeyRange]:
    """Ranges that cover every key, in order; see `spans`.

    Args:
        engine: TCS.
        columns: the columns in which keys stand; each begins an index of its table.
        width: keys a range; rounded up to whole buckets of an index.

    """
    return spans(engine, columns, -(-width // KEYS_A_BUCKET) * KEYS_A_BUCKET)
