"""Cut the keys of a table into ranges of a fixed width."""

from collections.abc import Iterable
from itertools import pairwise

import sqlalchemy as sa

from tis_sync.tcs.connect import explained
from tis_sync.tcs.read import KeyRange


def spans(engine: sa.Engine, columns: Iterable[sa.Column[int]], width: int) -> list[KeyRange]:
    """Ranges that cover every key, in order; the first and the last are open to their outer side.

    Args:
        engine: TCS.
        columns: the columns in which keys stand; each begins an index of its table.
        width: keys a range. Fewer than twice as many stay together: two scans of half a table take
            longer than one of the whole.

    """
    bounds: list[int] = []
    with explained(engine, name="TCS", setting="TIS_SYNC_TCS_URL"), engine.connect() as connection:
        for column in columns:
            row = connection.execute(sa.select(sa.func.min(column), sa.func.max(column))).one()
            bounds += [value for value in row if isinstance(value, int)]
    least, most = min(bounds, default=0), max(bounds, default=0)
    if most - least < 2 * width:
        return [KeyRange()]
    cuts = [*range((least // width + 1) * width, most + 1, width)]
    edges: list[int | None] = [None, *cuts, None]
    return [KeyRange(low, high) for low, high in pairwise(edges)]
