"""Views to be searched, without a TCS behind them."""

from typing import Any

import polars as pl

from tis_sync.jobs.base import IndexProduct
from tis_sync.jobs.person_index import FIELDS, PERSON_INDEX, PERSONS
from tis_sync.reconcile.index import encoded
from tis_sync.search.documents import DocumentForm
from tis_sync.search.model import SearchEngine

assert isinstance(PERSON_INDEX.product, IndexProduct)
FORM: DocumentForm = PERSON_INDEX.product.form
SPEC = PERSONS
MEMBERSHIP = pl.Struct(
    {
        "id": pl.Int64,
        "personId": pl.Int64,
        "programmeId": pl.Int64,
        "programmeName": pl.String,
        "programmeNumber": pl.String,
        "programmeMembershipStatus": pl.String,
    }
)
SCHEMA: dict[str, Any] = {
    **dict.fromkeys(FIELDS, pl.String),
    "personId": pl.Int64,
    "gradeId": pl.Int64,
    "siteId": pl.Int64,
    "trusts": pl.List(pl.Struct({"personId": pl.Int64, "trustId": pl.Int64})),
    "programmeMemberships": pl.List(MEMBERSHIP),
    "documentId": pl.String,
}
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
    """Views of so many people."""
    return views([person(number) for number in range(1, count + 1)])


def build(engine: SearchEngine, frame: pl.DataFrame, name: str) -> str:
    """Build an index of views and publish it."""
    index = engine.begin(SPEC, name)
    engine.write(index, encoded(frame, FORM))
    engine.refresh(index)
    engine.publish(SPEC, index)
    return index
