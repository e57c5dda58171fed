"""Health: checks, alarms, the audit log, effective settings; and the runbook."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from tis_sync import audit as audit_log
from tis_sync.alarms.check_state import CheckState
from tis_sync.app import examine
from tis_sync.doctor.finding import FAILED, Finding, summary
from tis_sync.errors import NotFoundError
from tis_sync.runs.services import Services
from tis_sync.web.auth.identity import Caller
from tis_sync.web.dependencies import LARGEST_INTEGER, Servers, Updater, Viewer
from tis_sync.web.presenters.effective_settings import effective_settings
from tis_sync.web.presenters.remedies import remedy_of
from tis_sync.web.presenters.runbook import DOCUMENTS, document
from tis_sync.web.templates import page

router = APIRouter()
CLOSED_LISTED, ENTRIES_LISTED = 20, 50
ORDER = {
    CheckState.MISSING: 0, CheckState.DRIFTED: 0, CheckState.NOT_CHECKED: 1, CheckState.OK: 2,
}  # fmt: skip


@router.get("/health")
def show(
    request: Request,
    s: Servers,
    user: Viewer,
    audit: Annotated[int | None, Query(ge=0, lt=LARGEST_INTEGER)] = None,
) -> HTMLResponse:
    """The page; it runs every check, by reading only."""
    return _page(request, s, user, examine(s, writes=False), audit)


@router.post("/health")
def check(request: Request, s: Servers, user: Updater) -> HTMLResponse:
    """The page after every check, with probes."""
    with audit_log.audited(s.state, s.clock(), user.actor, "check", "everything"):
        findings = examine(s)
    return _page(request, s, user, findings, None)


def _page(
    request: Request, s: Services, user: Caller, findings: list[Finding], audit: int | None
) -> HTMLResponse:
    entries = audit_log.entries(s.state, ENTRIES_LISTED + 1, audit)
    return page(
        request,
        "health.html",
        user=user,
        findings=sorted(findings, key=lambda finding: ORDER[finding.state]),
        summary=summary(findings),
        is_healthy=not any(finding.state in FAILED for finding in findings),
        open=[(alarm, remedy_of(alarm)) for alarm in s.alarms.open_alarms()],
        closed=s.alarms.closed_alarms(CLOSED_LISTED),
        entries=entries[:ENTRIES_LISTED],
        next=entries[ENTRIES_LISTED - 1].id if len(entries) > ENTRIES_LISTED else None,
        settings=effective_settings(s.settings),
    )


@router.get("/runbook")
@router.get("/runbook/{name}")
def runbook(request: Request, user: Viewer, name: str = "runbook") -> HTMLResponse:
    """What to do about alarms: one of the project's documents."""
    if name not in DOCUMENTS:
        raise NotFoundError(f"There is no document {name!r}; there are {', '.join(DOCUMENTS)}.")
    text = Markup(document(name))  # noqa: S704  our own document
    return page(request, "runbook.html", user=user, text=text)
