"""Reads that several jobs share: one scan of a large table serves all jobs of a night."""

from datetime import date

import sqlalchemy as sa

from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read

PLACEMENTS = Read(
    t.Placement,
    ("id", "traineeId", "postId", "dateFrom", "dateTo"),
    partition_column=t.Placement.c.traineeId,
    shared=True,
)
MEMBERSHIPS = Read(
    t.ProgrammeMembership,
    ("uuid", "personId", "programmeId", "programmeStartDate", "programmeEndDate"),
    partition_column=t.ProgrammeMembership.c.personId,
    shared=True,
)


def current_placement(today: date) -> sa.ColumnElement[bool]:
    """The condition for a current placement, for the `where` of a read."""
    return sa.and_(t.Placement.c.dateFrom <= today, t.Placement.c.dateTo >= today)
