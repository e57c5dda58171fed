"""Small worlds for Hypothesis: few records, dates close to today, much that is missing."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.conftest import TODAY
from tests.world import Row, Rows

DAYS = (-900, -3, -2, -1, 0, 1, 2, 900)
OWNERS = ("North", "Söuth", "𠮷 West")
TEXTS = ("plain", "O'Brien", "Zoë", "back\\slash", 'quo"te', "𠮷田", " two  words ", "100%")

dates = st.one_of(st.none(), st.sampled_from([TODAY + timedelta(days=d) for d in DAYS]))
owners = st.one_of(st.none(), st.sampled_from(OWNERS))
texts = st.one_of(st.none(), st.sampled_from(TEXTS))
trusts = st.one_of(st.none(), st.integers(1, 3))
small = st.integers(1, 4)
# How people and other services write a code or a key that MySQL takes for the same.
spellings: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [str, str.lower, str.upper, str.title, lambda text: f"{text} "]
)


def codes(*words: str) -> st.SearchStrategy[str]:
    """Some of the words, in any spelling."""
    return st.builds(lambda spell, word: spell(word), spellings, st.sampled_from(words))


def table(fields: dict[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[list[Row]]:
    """Up to `most` rows, with ids from one."""
    return st.lists(st.fixed_dictionaries(fields), max_size=most).map(
        lambda rows: [{"id": number, **row} for number, row in enumerate(rows, 1)]
    )


def some_of(count: int, fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Row]]:
    """Rows for some of the ids from one to `count`."""
    return st.lists(
        st.fixed_dictionaries({"id": st.integers(1, count), **fields}),
        max_size=count,
        unique_by=lambda row: row["id"],
    )


@st.composite
def worlds(draw: st.DrawFn) -> Rows:
    """A whole TCS; derived tables are filled at random too, with duplicates."""
    memberships = draw(
        table(
            {
                "personId": small,
                "programmeId": small,
                "programmeStartDate": dates,
                "programmeEndDate": dates,
            },
            6,
        )
    )
    for row in memberships:
        row["uuid"] = draw(spellings)(f"{(row.pop('id') * 7) % 10:08d}-aBcD")
    pairs = {"trustId": st.integers(1, 3)}
    links = draw(st.lists(st.tuples(small, small), max_size=5, unique=True))
    specialties = draw(st.lists(st.tuples(small, small), max_size=5, unique=True))
    kinds = codes("PRIMARY", "OTHER")
    return {
        "Person": draw(
            some_of(
                4,
                {
                    "intrepidId": st.none(),
                    "role": texts,
                    "status": st.one_of(st.none(), codes("CURRENT", "INACTIVE", "DELETE")),
                    "publicHealthNumber": texts,
                },
            )
        ),
        "ContactDetails": draw(some_of(4, {"surname": texts, "forenames": texts})),
        "GmcDetails": draw(some_of(4, {"gmcNumber": texts})),
        "GdcDetails": draw(some_of(4, {"gdcNumber": texts})),
        "Programme": draw(
            some_of(4, {"owner": owners, "programmeName": texts, "programmeNumber": texts})
        ),
        "ProgrammeMembership": memberships,
        "CurriculumMembership": [
            {
                "id": number,
                "programmeMembershipUuid": draw(spellings)(
                    draw(st.sampled_from(memberships))["uuid"]
                ),
            }
            for number in range(1, draw(st.integers(0, 5)) + 1)
            if memberships
        ],
        "Post": draw(
            some_of(
                4,
                {
                    "nationalPostNumber": texts,
                    "employingBodyId": trusts,
                    "trainingBodyId": trusts,
                    "owner": owners,
                    "fundingStatus": codes("CURRENT", "INACTIVE"),
                },
            )
        ),
        "PostFunding": draw(
            table({"postId": small, "startDate": dates, "endDate": dates, "fundingType": texts}, 6)
        ),
        "Placement": draw(
            table(
                {
                    "traineeId": st.one_of(st.none(), small),
                    "postId": st.one_of(st.none(), small),
                    "dateFrom": dates,
                    "dateTo": dates,
                    "siteId": trusts,
                    "siteCode": texts,
                    "gradeId": trusts,
                    "gradeAbbreviation": texts,
                    "placementType": texts,
                    "lifecycleState": st.sampled_from(["DRAFT", "APPROVED"]),
                },
                8,
            )
        ),
        "PlacementSpecialty": [
            {"placementId": a, "specialtyId": b, "placementSpecialtyType": draw(kinds)}
            for a, b in specialties
        ],
        "Specialty": draw(some_of(4, {"name": texts, "specialtyCode": texts})),
        "PostSite": draw(table({"postId": small, "siteId": trusts, "postSiteType": kinds}, 4)),
        "PostGrade": draw(
            table(
                {
                    "postId": small,
                    "gradeId": trusts,
                    "postGradeType": codes("APPROVED", "OTHER"),
                },
                4,
            )
        ),
        "PostSpecialty": draw(
            table({"postId": small, "specialtyId": small, "postSpecialtyType": kinds}, 4)
        ),
        "ProgrammePost": [{"programmeId": a, "postId": b} for a, b in links],
        "PersonOwner": draw(some_of(5, {"owner": owners, "rule": st.sampled_from(["P1", None])})),
        "PersonTrust": draw(table({"personId": small, **pairs}, 6)),
        "PostTrust": draw(table({"postId": small, **pairs}, 6)),
    }


def days_from(first: date, count: int) -> list[date]:
    """`count` consecutive days, starting with `first`."""
    return [first + timedelta(days=n) for n in range(count)]
