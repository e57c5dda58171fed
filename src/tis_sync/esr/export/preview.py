"""The preview of an export: which files would be sent, and how many records each would contain.

Records are exported once, into the file of one day. So an export for another day than today is
only carried out for somebody who has seen the preview and repeats its number of records.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tis_sync.errors import PreviewNeededError, UsageError
from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.numbering import count_ready
from tis_sync.esr.files.store import find_files
from tis_sync.esr.notifications.selection import select_notifications
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

SETTING = "TIS_SYNC_ESR_EXPORT_DAYS"
SENT_AGAIN = "sent again, unchanged"


@dataclass(frozen=True)
class FilePreview:
    """The file of a deanery that an export would send.

    Attributes:
        deanery: the code of the deanery.
        file: the name of the file that exists and would be sent again. None: a new file.
        records: how many records the file has, or would have. Records that the export itself
            refreshes from TCS may change this number.

    """

    deanery: str
    file: str | None
    records: int


def preview(
    s: Services, deaneries: Sequence[str], file_type: FileType, day: date, *, new: bool
) -> list[FilePreview]:
    """Return what an export would send, in the order of the deaneries; write nothing.

    Args:
        s: settings, clock and servers.
        deaneries: codes of deaneries.
        file_type: the type of the files.
        day: the day of the files (Europe/London).
        new: as for `actions.export`.

    """
    return [_preview(s, code, file_type, day, new=new) for code in deaneries]


def _preview(
    s: Services, deanery: str, file_type: FileType, day: date, *, new: bool
) -> FilePreview:
    if not new and file_type != FileType.DNF:
        existing = find_files(s.state, day=day, deanery=deanery, file_type=file_type)
        if existing:
            last = max(existing, key=lambda file: file.revision)
            return FilePreview(deanery, last.name, last.records)
    if file_type == FileType.APP:
        return FilePreview(deanery, None, count_ready(s.state, deanery))
    selection = select_notifications(
        s.state,
        s.tcs(),
        deanery,
        s.settings.esr_deaneries,
        s.settings.esr_notifications_since,
        london_day(s.clock()),
        full=file_type == FileType.DNF,
    )
    return FilePreview(deanery, None, selection.rows.height)


def total(previews: Iterable[FilePreview]) -> int:
    """Return the number of records in all files of a preview."""
    return sum(file.records for file in previews)


def oldest_day(settings: Settings, today: date) -> date:
    """Return the oldest day for which a file may be made."""
    return today - timedelta(days=settings.esr_export_days)


def check_day(settings: Settings, day: date, today: date) -> None:
    """Check that files of a day may be requested.

    Raises:
        UsageError: the day is in the future, or too long ago.

    """
    if day > today:
        raise UsageError(f"{day} is in the future; today is {today} (London).")
    oldest = oldest_day(settings, today)
    if day < oldest:
        raise UsageError(
            f"{day} is too long ago: files can be requested for {oldest} and later. What is "
            f"unsent goes into today's file. {SETTING} changes this limit."
        )


def check_preview(previewed: int | None, previews: Sequence[FilePreview], day: date) -> None:
    """Check that the caller has seen the preview of an export for another day than today.

    Args:
        previewed: the number of records that the caller has seen. None: no preview was seen.
        previews: the preview, as of now.
        day: the day of the files.

    Raises:
        PreviewNeededError: it was not seen, or it has changed.

    """
    records = total(previews)
    if previewed == records:
        return
    begin = "" if previewed is None else f"The preview had {previewed:,} records. "
    raise PreviewNeededError(
        f"{begin}This exports {records:,} records into files for {day}, which is not today. "
        "Look at the preview, and confirm its number of records."
    )
