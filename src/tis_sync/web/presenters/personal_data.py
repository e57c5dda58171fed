"""Personal data: who sees them, the record of each look, and what others see instead.

What is not known to be harmless is redacted, so a field that is added later is redacted too.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tis_sync import audit
from tis_sync.esr.records import Record, RecordState
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services
from tis_sync.search.model import Hits
from tis_sync.web.auth.identity import Caller, NotAllowedError

REDACTED = "[personal data]"
# Fields of documents of search that say nothing about a person beyond the post that it holds.
SEARCH_FIELDS = {
    "persons": frozenset({
        "personId", "gradeId", "gradeAbbreviation", "siteId", "siteCode", "placementType",
        "specialty", "role", "status", "currentOwner", "currentOwnerRule", "trusts",
        "programmeMemberships",
    }),
    "posts": frozenset({
        "id", "nationalPostNumber", "primarySiteId", "approvedGradeId", "primarySpecialtyId",
        "primarySpecialtyCode", "primarySpecialtyName", "programmeNames", "programmeIds",
        "fundingTypes", "status", "owner", "trustIds",
    }),
}  # fmt: skip
# Columns of files for ESR that say nothing about a person.
FILE_COLUMNS = frozenset({
    "line", "effectiveDate", "positionId", "positionNumber", "projectedHireDate",
    "projectedEndDate", "notificationTitleCode", "deaneryBody", "deaneryPostNumber",
    "managingDeaneryBodyCode", "occupationCode", "hostLeadEmployerStatus",
    "newTrainingPositionLocation", "postSpeciality", "workingHourIndicator",
    "postVacantAtNextRotation", "medicalRotationPostDeleteIndicator",
})  # fmt: skip
# Columns of derived tables with text in them; all other columns of these tables are keys.
SAMPLE_COLUMNS = frozenset({"id", "owner", "rule", "status", "fundingStatus"})


def look(
    s: Services,
    user: Caller,
    subject: str,
    ids: Iterable[object],
    recorded: set[str] | None = None,
) -> bool:
    """Return whether the caller may see personal data, and record in the audit log that it did.

    Args:
        s: the services.
        user: the caller.
        subject: what the caller looks at.
        ids: whose data: numbers of people, placements or posts. Nothing is recorded without any.
        recorded: what has been recorded of a continuing look; this function adds to it.

    """
    if not user.sees_personal_data:
        return False
    recorded = set() if recorded is None else recorded
    seen = sorted({str(one) for one in ids} - recorded)
    recorded |= set(seen)
    if seen:
        audit.record(
            s.state,
            s.clock(),
            user.actor,
            action="see personal data",
            subject=subject,
            outcome=audit.DONE,
            detail={"ids": seen},
        )
    return True


def require(s: Services, user: Caller, purpose: str) -> None:
    """Refuse a caller who may not see personal data, where hiding them would not be enough.

    Args:
        s: the services.
        user: the caller.
        purpose: what the caller wants to do; the sentence begins with it.

    Raises:
        NotAllowedError: the caller may not see them.

    """
    if not user.sees_personal_data:
        role = s.settings.oidc_personal_role
        reason = f"{purpose} needs the role {role!r}, because the answer tells names and numbers"
        raise NotAllowedError(f"{reason}, however little of it is displayed.")


def redacted(values: Mapping[str, Any], harmless: Collection[str]) -> dict[str, Any]:
    """Return values by name; all but the harmless ones are replaced."""
    return {name: value if name in harmless else REDACTED for name, value in values.items()}


def seen_hits(s: Services, user: Caller, index: str, hits: Hits) -> Hits:
    """Return the answer of a search as the caller may see it, and record the look."""
    key = "personId" if index == "persons" else "id"
    if look(s, user, f"search: {index}", [document.get(key) for document in hits.documents]):
        return hits
    harmless = SEARCH_FIELDS[index]
    return replace(hits, documents=[redacted(document, harmless) for document in hits.documents])


def redacted_record(record: Record) -> Record:
    """Return a record without its content, and without reasons that quote values of it."""
    quotes = record.state == RecordState.INVALID_DATA and record.reason is not None
    return replace(
        record,
        content={"firstName": None, "lastName": REDACTED},
        reason=REDACTED if quotes else record.reason,
    )


def seen_lines(
    s: Services, user: Caller, run: Run, lines: list[str], recorded: set[str]
) -> list[str]:
    """Return the lines about records that a run set aside, which quote values; or none of them."""
    records = [line.partition(":")[0] for line in lines]
    return lines if look(s, user, f"run {run.id}", records, recorded) else []


def seen_sample(
    s: Services, user: Caller, run: Run, recorded: set[str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return the sample of a dry run as the caller may see it, and record the look."""
    sample = run.detail.sample
    visible = {
        kind: [{name: _harmless(name, value) for name, value in row.items()} for row in rows]
        for kind, rows in sample.items()
    }
    if visible == sample:  # there are no personal data in it
        return sample
    ids = [row.get("id") for rows in sample.values() for row in rows]
    return sample if look(s, user, f"run {run.id}", ids, recorded) else visible


def _harmless(name: str, value: Any) -> Any:
    is_key = value is None or isinstance(value, int | float)
    return value if is_key or name.removesuffix(" now") in SAMPLE_COLUMNS else REDACTED
