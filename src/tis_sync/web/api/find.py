"""Search, as users of TIS do; and why somebody is not found."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tis_sync.errors import UsageError
from tis_sync.search.model import Hits
from tis_sync.search.model import Query as Question
from tis_sync.web.api.shown import Limit
from tis_sync.web.depends import Servers
from tis_sync.web.missing import INDEXES, look_for
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["search"], responses=PROBLEMS)
HITS = 20
Index = Literal["persons", "posts"]


class WhereaboutsShown(BaseModel):
    """Whether a record of TCS is in the index, and if not, why."""

    id: int
    name: str
    documents: list[str]
    found: bool
    lines: list[str]


@router.get("/search/{index}")
def search(
    index: Index,
    s: Servers,
    text: Annotated[str, Query(max_length=200)] = "",
    where: Annotated[
        list[str] | None, Query(description="FIELD=VALUE; all must hold.", examples=["grade=ST3"])
    ] = None,
    limit: Limit = HITS,
) -> Hits:
    """Every word of the text begins a word of a name or number, and every filter holds."""
    parted = [one.partition("=") for one in where or []]
    for name, sign, _ in parted:
        if not sign:
            raise UsageError(f"where={name!r} is not of the form FIELD=VALUE.")
    question = Question(text, tuple((name, value) for name, _, value in parted), limit)
    return s.search().query(INDEXES[index], question)


@router.get("/search/{index}/missing")
def missing(
    index: Index, s: Servers, text: Annotated[str, Query(min_length=1, max_length=200)]
) -> list[WhereaboutsShown]:
    """Records of TCS by their number or name, whether each is in the index, and if not, why."""
    return [WhereaboutsShown(**asdict(one), found=one.found) for one in look_for(s, index, text)]
