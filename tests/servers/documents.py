"""Views of people to search for, without a TCS."""

from typing import Any

import polars as pl

from tis_sync.jobs.base import IndexTarget
from tis_sync.jobs.person_index import FIELDS, PERSON_INDEX, PERSONS
from tis_sync.reconcile.index_plan import encoded
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import Fields, FieldType, SearchEngine

assert isinstance(PERSON_INDEX.target, IndexTarget)
FORM: DocumentForm = PERSON_INDEX.target.form
SPEC = PERSONS


def polars_types(fields: Fields) -> dict[str, Any]:
    """The types of the columns of views, as the table of fields declares them."""
    return {
        name: pl.List(pl.Struct(polars_types(declared)))
        if not isinstance(declared, FieldType)
        else pl.Int64
        if declared is FieldType.LONG
        else pl.String
        for name, declared in fields.items()
    }


SCHEMA: dict[str, Any] = {**polars_types(FIELDS), "documentId": pl.String}
NAMES = (("Zoë", "Müller"), ("Anne-Marie", "O'Brien"), ("美咲", "𠮷田"), ("Ève", "Smith-Jones"))


def person(number: int, **fields: Any) -> dict[str, Any]:
    """A person view."""
    forenames, surname = NAMES[number % len(NAMES)]
    view: dict[str, Any] = {
        "personId": number,
        "surname": surname,
        "forenames": forenames,
        "fullName": f"{forenames} {surname}",
        "gmcNumber": str(6_000_000 + number),
        "gradeId": number % 3,
        "gradeAbbreviation": f"ST{number % 3}",
        "siteId": number % 5,
        "siteCode": f"RAB{number % 5}",
        "placementType": ("In post", "OOPE")[number % 2],
        "status": ("CURRENT", "INACTIVE")[number % 2],
        "currentOwner": ("Thames Valley", "Wessex", None)[number % 3],
        "trusts": [{"personId": number, "trustId": trust} for trust in (number % 7, 100)],
        "programmeMemberships": [
            {
                "id": number,
                "personId": number,
                "programmeId": number % 4,
                "programmeName": f"Programme {number % 4}",
                "programmeNumber": None,
                "programmeMembershipStatus": "CURRENT",
            }
        ],
        "documentId": str(number),
    }
    return dict.fromkeys(SCHEMA) | view | fields


def views(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A frame of person views."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def people(count: int) -> pl.DataFrame:
    """Views of a number of people."""
    return views([person(number) for number in range(1, count + 1)])


def build(engine: SearchEngine, frame: pl.DataFrame, name: str) -> str:
    """Build an index of views and publish it."""
    index = engine.begin(SPEC, name)
    engine.write(index, encoded(frame, FORM))
    engine.refresh(index)
    engine.publish(SPEC, index)
    return index
