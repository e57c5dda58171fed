"""Reads that several jobs of a night share: one scan of a large table serves them all."""

from tis_sync.tcs import tables as t
from tis_sync.tcs.read import Read

PLACEMENTS = Read(
    t.Placement,
    ("id", "traineeId", "postId", "dateFrom", "dateTo"),
    by=t.Placement.c.traineeId,
    shared=True,
)
MEMBERSHIPS = Read(
    t.ProgrammeMembership,
    ("uuid", "personId", "programmeId", "programmeStartDate", "programmeEndDate"),
    by=t.ProgrammeMembership.c.personId,
    shared=True,
)
