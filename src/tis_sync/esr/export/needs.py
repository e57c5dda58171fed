"""What the export to ESR needs of TCS."""

from datetime import date

from tis_sync.esr.applicants.eligibility import READS
from tis_sync.esr.applicants.too_late import late_reads
from tis_sync.esr.export.tcs_events import EVENT
from tis_sync.esr.notifications.selection import notification_read
from tis_sync.esr.notifications.vacancy_notifications import COLUMNS, TABLE, existing_read, reads
from tis_sync.tcs.needs import Needs, Privilege, merged, of_reads, of_writes
from tis_sync.tcs.read import Read


def export_needs(day: date) -> Needs:
    """What the export reads and writes, on any day."""
    events = tuple(column.name for column in EVENT.columns)
    return merged(
        [
            of_reads(
                [
                    *READS,
                    *late_reads(day),
                    *reads(day),
                    existing_read(day),
                    notification_read(),
                    Read(EVENT, events),
                ]
            ),
            of_writes(EVENT, [name for name in events if name != "id"], Privilege.INSERT),
            of_writes(TABLE, COLUMNS, Privilege.INSERT),
        ]
    )
