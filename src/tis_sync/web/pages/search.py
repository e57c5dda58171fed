"""Search, as users of TIS do; and "somebody is missing", settled in a minute."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from tis_sync.search.model import Query
from tis_sync.web.depends import Servers, Viewer
from tis_sync.web.missing import INDEXES, JOBS, look_for
from tis_sync.web.pages.common import TITLES
from tis_sync.web.templates import page

router = APIRouter()
HITS = 25
LONGEST = 200  # of a text that is searched for
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
    who: Viewer,
    index: Literal["persons", "posts"] = "persons",
    text: str = "",
    missing: str = "",
) -> HTMLResponse:
    """The page; searches where something was asked for."""
    spec = INDEXES[index]
    names = [one.name for one in spec.filters]
    chosen = {
        name: value for name in names if (value := request.query_params.get(name, "").strip())
    }
    asked = "text" in request.query_params and not missing
    query = Query(text[:LONGEST], tuple(chosen.items()), HITS)
    return page(
        request,
        "search.html",
        who=who,
        index=index,
        text=text,
        missing=missing,
        filters=names,
        chosen=chosen,
        columns=COLUMNS[index],
        hits=s.search().query(spec, query) if asked else None,
        whereabouts=look_for(s, index, missing[:LONGEST]) if missing.strip() else None,
        job=JOBS[index],
        title=TITLES[JOBS[index].name],
        said=_said,
    )


def _said(value: object) -> str:
    """A value of a document, for people."""
    if value is None or value == []:
        return "–"
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
