"""The finding of a check: whether it passed, what it found, and the remedy if it failed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tis_sync.alarms.check_state import CheckState

OK, DRIFTED, MISSING = CheckState.OK, CheckState.DRIFTED, CheckState.MISSING
NOT_CHECKED = CheckState.NOT_CHECKED
FAILED = {DRIFTED, MISSING}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: OK, DRIFTED, MISSING or NOT_CHECKED.
        message: what was found.
        remedy: what to do, as a phrase that begins with a verb; None if the check passed.

    """

    name: str
    state: CheckState
    message: str
    remedy: str | None = None


def summary(findings: Sequence[Finding]) -> str:
    """Return how many checks passed, failed, and were not made, as a sentence."""
    count = Counter(finding.state for finding in findings)
    parts = [f"{count[OK]} of {len(findings)} checks passed"]
    if failed := count[DRIFTED] + count[MISSING]:
        parts.append(f"{failed} failed")
    if count[NOT_CHECKED]:
        parts.append(f"{count[NOT_CHECKED]} not checked")
    return ", ".join(parts) + "."
