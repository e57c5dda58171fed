"""The guard: a plan that loses too much is held until a person approves it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """The limits on what a run may lose without approval.

    Attributes:
        share: the largest share of the existing records, between 0 and 1.
        rows: the number of records that may always be lost.

    """

    share: float
    rows: int

    def objection(
        self,
        *,
        existing: int,
        lost: int,
        verb: str,
        name: str,
        beyond_approval: bool = False,
        counted_before: bool = False,
    ) -> str | None:
        """Return why a plan must be held.

        Args:
            existing: existing records (or documents), without duplicates.
            lost: how many of them the plan removes, empties, or (in a column) changes, without
                those that an approval covers.
            verb: what happens to them, for the message ("remove").
            name: the name of the table or index.
            beyond_approval: whether an approval covers further records.
            counted_before: whether the existing records were counted for an earlier plan, so that
                there may be more of them now.

        Returns:
            A predicate for the message, or None if the plan may be applied.

        """
        if lost <= self.rows or lost <= self.share * existing:
            return None
        unapproved = " that were not in the approved plan" if beyond_approval else ""
        if counted_before:
            return (
                f"would {verb} {lost:,} records of {name}{unapproved}, more than {self.share:.0%} "
                f"of the {existing:,} that existed when the plan was judged"
            )
        return (
            f"would {verb} {lost:,} of {existing:,} records of {name}{unapproved}, more than "
            f"{self.share:.0%}"
        )
