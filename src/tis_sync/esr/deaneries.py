"""The deaneries and the file types, by the names that TIS and ESR use."""

from collections.abc import Mapping
from enum import StrEnum

from tis_sync.errors import UsageError

# In the order in which TIS assigns file numbers.
DEANERIES = (
    "EMD", "KSS", "NTH", "WMD", "PEN", "NWN", "YHD", "EOE", "OXF", "WES", "LDN", "MER", "SEV",
)  # fmt: skip


class FileType(StrEnum):
    """A type of file for ESR; each has its own counter."""

    APP = "APP"  # applicants: placements that start soon
    DNC = "DNC"  # notifications, changes: those not yet sent
    DNF = "DNF"  # notifications, full: every one of a deanery

    @property
    def option(self) -> str:
        """The name of the type on the command line and in the API."""
        return next(name for name, value in FILE_TYPE_BY_NAME.items() if value == self)


FILE_TYPE_BY_NAME: Mapping[str, FileType] = {
    "app": FileType.APP,
    "notification": FileType.DNC,
    "notification-full": FileType.DNF,
}


def deanery_named(text: str) -> str:
    """Find a deanery by its code; case does not matter.

    Raises:
        UsageError: there is none.

    """
    code = text.strip().upper()
    if code not in DEANERIES:
        raise UsageError(f"Unknown deanery {text!r}; the deaneries are {', '.join(DEANERIES)}.")
    return code


def file_type_named(text: str) -> FileType:
    """Find a file type by its name (`app`, `notification`, `notification-full`) or code (APP).

    Raises:
        UsageError: there is none.

    """
    name = text.strip()
    by_code = {file_type.value: file_type for file_type in FileType}
    file_type = FILE_TYPE_BY_NAME.get(name.lower()) or by_code.get(name.upper())
    if file_type is None:
        raise UsageError(
            f"Unknown file type {text!r}; the file types are {', '.join(FILE_TYPE_BY_NAME)}."
        )
    return file_type
