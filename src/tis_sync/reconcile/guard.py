"""The guard: a plan that removes too much is held until a person approves it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """The limits on what a run may remove without approval.

    Attributes:
        share: the largest share of the existing records, between 0 and 1.
        rows: the number of records that may always be removed.

    """

    share: float
    rows: int

    def objection(self, *, existing: int, removed: int, emptied: int, name: str) -> str | None:
        """Return why a plan must be held.

        Args:
            existing: existing records (or documents), without duplicates.
            removed: how many of them the plan removes.
            emptied: how many of them would lose their last value.
            name: the name of the table or index.

        Returns:
            A predicate for the message, or None if the plan may be applied.

        """
        lost = removed + emptied
        if lost <= self.rows or lost <= self.share * existing:
            return None
        parts = [f"remove {removed:,}" if removed else "", f"empty {emptied:,}" if emptied else ""]
        return (
            f"would {' and '.join(filter(None, parts))} of {existing:,} records of {name}, "
            f"more than {self.share:.0%}"
        )
