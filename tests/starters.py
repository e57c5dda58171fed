"""Starters in a TCS of plain rows: people with placements that must be exported to ESR."""

from datetime import date, datetime, timedelta
from typing import Any

from tests.conftest import TODAY
from tests.world import Row

POSITION = 50_000_000
EVENT_AT = datetime(2026, 1, 5)  # noqa: DTZ001  TCS stores no time zone


def person(number: int, **details: Any) -> dict[str, list[Row]]:
    """A person with everything that ESR needs; `details` are columns of ContactDetails."""
    contact = {"id": number, "surname": f"O'Brien {number}", "forenames": "Siân Mary"}
    return {
        "Person": [{"id": number}],
        "ContactDetails": [contact | {"postCode": "SW1A 1AA", "title": "Dr"} | details],
        "PersonalDetails": [
            {"id": number, "dateOfBirth": date(1995, 2, 3), "gender": "Female",
             "amendedDate": EVENT_AT},
        ],
        "GmcDetails": [{"id": number, "gmcNumber": f"{7_000_000 + number}"}],
    }  # fmt: skip


def post(number: int, deanery: str = "WES", positions: int = 1) -> dict[str, list[Row]]:
    """A post with a number of reconciled positions."""
    return {
        "Post": [{"id": number, "nationalPostNumber": f"{deanery}/RHM01/{number}/F2/003",
                  "fundingStatus": "CURRENT"}],
        "PostEsrEvent": [
            event(number, POSITION + 10 * number + which) for which in range(positions)
        ],
    }  # fmt: skip


def event(post_id: int, position: int, status: str = "RECONCILED", days: int = 0) -> Row:
    """An event of a position, as ESR reports it."""
    return {
        "postId": post_id, "positionId": position, "positionNumber": position - POSITION,
        "eventDateTime": EVENT_AT + timedelta(days=days), "status": status,
        "filename": "DE_WES_RMC_20260105_00000001.DAT",
    }  # fmt: skip


def placement(number: int, person_id: int, post_id: int, start: date, **values: Any) -> Row:
    """A placement that lasts half a year."""
    return {
        "id": number, "traineeId": person_id, "postId": post_id, "dateFrom": start,
        "dateTo": start + timedelta(days=181), "placementType": "In post",
        "lifecycleState": "APPROVED",
    } | values  # fmt: skip


def combined(*parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Merge the rows of several parts."""
    rows: dict[str, list[Row]] = {}
    for part in parts:
        for table, records in part.items():
            rows.setdefault(table, []).extend(records)
    return rows


def starters(count: int, deaneries: tuple[str, ...] = ("WES",), in_days: int = 20) -> Any:
    """A number of people, each with a post and a placement, spread over several deaneries."""
    parts = []
    for number in range(1, count + 1):
        deanery = deaneries[number % len(deaneries)]
        start = TODAY + timedelta(days=in_days)
        parts += [
            person(number),
            post(number, deanery),
            {"Placement": [placement(number, number, number, start)]},
        ]
    return combined(*parts)
