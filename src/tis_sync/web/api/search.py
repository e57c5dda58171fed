"""Search: query the indexes, and explain why a person or post is not in search."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Query as Parameter
from pydantic import BaseModel

from tis_sync.errors import UsageError
from tis_sync.search.model import Hits, Query
from tis_sync.web.api.schemas import Limit
from tis_sync.web.dependencies import Servers, Viewer
from tis_sync.web.presenters.personal_data import look, require, seen_hits
from tis_sync.web.presenters.search_diagnosis import INDEXES, diagnose
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["search"], responses=PROBLEMS)
HITS = 20
Index = Literal["persons", "posts"]


class DiagnosisDetails(BaseModel):
    """Whether search contains a record of TCS as it is now, and why not."""

    id: int
    name: str
    documents: list[str]
    in_search: bool
    is_current: bool
    differing: list[str]
    lines: list[str]


@router.get("/search/{index}")
def search(
    index: Index,
    s: Servers,
    user: Viewer,
    text: Annotated[str, Parameter(max_length=200)] = "",
    where: Annotated[
        list[str] | None,
        Parameter(description="FIELD=VALUE; every filter must match.", examples=["grade=ST3"]),
    ] = None,
    limit: Limit = HITS,
) -> Hits:
    """Search as users of TIS do: every word must begin a word of a name or number.

    A text, and personal data in the answer, need the role personal; filters do not.
    """
    if text.strip():
        require(s, user, "Searching for a text")
    filters = []
    for item in where or []:
        name, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"where={item!r} does not have the form FIELD=VALUE.")
        filters.append((name, value))
    hits = s.search().query(INDEXES[index], Query(text, tuple(filters), limit))
    return seen_hits(s, user, index, hits)


@router.get("/search/{index}/diagnosis")
def diagnosis(
    index: Index,
    s: Servers,
    user: Viewer,
    text: Annotated[str, Parameter(min_length=1, max_length=200)],
) -> list[DiagnosisDetails]:
    """Find records of TCS by number or name; whether search contains each, and why not.

    This needs the role personal.
    """
    require(s, user, "Looking up a record")
    diagnoses = diagnose(s, index, text)
    look(s, user, f"search in TCS: {index}", [found.id for found in diagnoses])
    return [DiagnosisDetails(**asdict(found), in_search=found.in_search) for found in diagnoses]
