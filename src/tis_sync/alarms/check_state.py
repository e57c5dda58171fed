"""The result of a check: as declared, drifted, missing, or not checked."""

from enum import StrEnum


class CheckState(StrEnum):
    """The result of one check of `tis-sync doctor`."""

    OK = "ok"  # as declared
    DRIFTED = "drifted"  # it exists, but not as declared
    MISSING = "missing"  # it does not exist, or cannot be reached
    NOT_CHECKED = "not checked"  # nothing is known about it; neither right nor wrong
