"""Health: the doctor's checklist, alarms, who did what, settings in force; and the runbook."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from tis_sync.doctor import examine
from tis_sync.web import audit as audit_log
from tis_sync.web.depends import Servers, Viewer
from tis_sync.web.in_force import in_force
from tis_sync.web.remedy import remedy
from tis_sync.web.runbook import DOCUMENTS, document
from tis_sync.web.templates import page

router = APIRouter()
CLOSED_LISTED, AUDIT_LISTED = 20, 50


@router.get("/health")
def show(
    request: Request,
    s: Servers,
    who: Viewer,
    audit: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> HTMLResponse:
    """The page; looks at everything now."""
    entries = audit_log.entries(s.state, AUDIT_LISTED + 1, audit)
    return page(
        request,
        "health.html",
        who=who,
        findings=examine(s),
        open=[(alarm, remedy(alarm)) for alarm in s.alarms.open()],
        closed=s.alarms.closed(CLOSED_LISTED),
        audit=entries[:AUDIT_LISTED],
        next=entries[AUDIT_LISTED - 1].id if len(entries) > AUDIT_LISTED else None,
        settings=in_force(s.settings),
    )


@router.get("/runbook")
def runbook(request: Request, who: Viewer, of: str = "runbook") -> HTMLResponse:
    """What to do about an alarm."""
    name = of if of in DOCUMENTS else "runbook"
    return page(request, "runbook.html", who=who, text=Markup(document(name)))  # noqa: S704  ours
