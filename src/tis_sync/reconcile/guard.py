"""The guard: a plan that takes too much away is held until a person lets it through."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """Limits of what a run may take away without being asked.

    Attributes:
        share: the largest share of what exists, between 0 and 1.
        rows: so few may always go.

    """

    share: float
    rows: int

    def objection(self, *, existing: int, removed: int, emptied: int, what: str) -> str | None:
        """Why a plan is held; None: it may pass.

        Args:
            existing: records (or documents) before, duplicates not counted.
            removed: how many of them would go.
            emptied: how many would lose their last value.
            what: the table or index, for the message.

        """
        lost = removed + emptied
        if lost <= self.rows or lost <= self.share * existing:
            return None
        parts = [f"remove {removed:,}" if removed else "", f"empty {emptied:,}" if emptied else ""]
        return (
            f"would {' and '.join(filter(None, parts))} of {existing:,} records of {what}, "
            f"more than {self.share:.0%}; nothing was written. If the source is right, "
            "run it again with --approve"
        )
