"""Search as users of TIS do, and find out why a person or post is not in search."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Query as Parameter
from fastapi.responses import HTMLResponse

from tis_sync.search.model import Query
from tis_sync.web.dependencies import Servers, Viewer
from tis_sync.web.pages.common import TITLES
from tis_sync.web.presenters.personal_data import look, require, seen_hits
from tis_sync.web.presenters.search_diagnosis import INDEX_JOBS, INDEXES, diagnose
from tis_sync.web.templates import page

router = APIRouter()
HITS = 25
LONGEST_TEXT = 200  # characters
COLUMNS = {
    "persons": {
        "personId": "Number", "fullName": "Name", "gmcNumber": "GMC", "gradeAbbreviation": "Grade",
        "placementType": "Placement", "siteCode": "Site", "currentOwner": "Owner",
        "status": "Status",
    },
    "posts": {
        "id": "Number", "nationalPostNumber": "Post", "currentTraineeSurnames": "Trainees",
        "primarySpecialtyName": "Specialty", "programmeNames": "Programmes", "owner": "Owner",
        "status": "Status",
    },
}  # fmt: skip


@router.get("/search")
def show(
    request: Request,
    s: Servers,
    user: Viewer,
    index: Literal["persons", "posts"] = "persons",
    text: str = "",
    diagnose_text: Annotated[str, Parameter(alias="diagnose")] = "",
) -> HTMLResponse:
    """The page; it searches if the form was sent."""
    spec = INDEXES[index]
    names = [spec_filter.name for spec_filter in spec.filters]
    chosen = {
        name: value for name in names if (value := request.query_params.get(name, "").strip())
    }
    submitted = "text" in request.query_params and not diagnose_text
    if text.strip() or diagnose_text.strip():
        require(s, user, "Searching for a text")
    query = Query(text[:LONGEST_TEXT], tuple(chosen.items()), HITS)
    job = INDEX_JOBS[index]
    hits = diagnoses = None
    if submitted:
        hits = seen_hits(s, user, index, s.search().query(spec, query))
    if diagnose_text.strip():
        diagnoses = diagnose(s, index, diagnose_text[:LONGEST_TEXT])
        look(s, user, f"search in TCS: {index}", [found.id for found in diagnoses])
    return page(
        request,
        "search.html",
        user=user,
        index=index,
        text=text,
        diagnose=diagnose_text,
        filters=names,
        chosen=chosen,
        columns=COLUMNS[index],
        hits=hits,
        diagnoses=diagnoses,
        job=job,
        title=TITLES[job.name],
        as_text=_as_text,
    )


def _as_text(value: object) -> str:
    """A value of a document."""
    if value is None or value == []:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
