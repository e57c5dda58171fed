"""The columns that the fields of each file type take their values from, and the layouts in use."""

from functools import lru_cache
from pathlib import Path

from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.layout import Layout, load_layout
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as tcs

HEADER_COLUMNS = {"fileType", "fileName", "createdDate", "createdTime", "deanery"}
TRAILER_COLUMNS = {"fileType", "fileName", "recordCount"}
APPLICANT_COLUMNS = (
    "effectiveDate", "lastName", "firstName", "dob", "positionId", "positionNumber", "middleNames",
    "title", "previousLastName", "gender", "applicantEmailAddress", "homeTel", "mobileTel",
    "address1", "address2", "address3", "address4", "postcode", "country", "ethnicOriginCode",
    "nationality", "maritalStatus", "sexualOrientation", "religiousBelief", "disability",
    "professionalBody1", "regNumber1", "expiryDate1", "professionalBody2", "regNumber2",
    "expiryDate2", "ukNino", "nationalTrainingNumber", "projectedHireDate", "projectedEndDate",
    "town", "county", "countryOfBirth", "contactPersonName", "contactPersonTel",
)  # fmt: skip
NOTIFICATION_COLUMNS = tuple(
    column.name for column in tcs.EsrNotification.columns if column.name != "id"
)


def layout_of(file_type: FileType, settings: Settings) -> Layout:
    """The layout in use for a file type: the site's own, or the built-in one.

    Raises:
        UsageError: the site's own layout is invalid; the message names file, line and reason.

    """
    return _layout(file_type, settings.esr_layouts)


@lru_cache
def _layout(file_type: FileType, folder: Path | None) -> Layout:
    body = APPLICANT_COLUMNS if file_type == FileType.APP else NOTIFICATION_COLUMNS
    columns = {"HDR": HEADER_COLUMNS, "TRL": TRAILER_COLUMNS, "*": set(body)}
    return load_layout(file_type, folder, columns)
