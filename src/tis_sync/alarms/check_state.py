"""The result of a check: as declared, drifted or missing."""

from enum import StrEnum


class CheckState(StrEnum):
    """The result of one check of `tis-sync doctor`."""

    OK = "ok"  # as declared
    DRIFTED = "drifted"  # it exists, but not as declared
    MISSING = "missing"  # it does not exist, or cannot be seen
