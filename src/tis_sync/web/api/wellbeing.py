"""Is all well? Alarms, the doctor's checklist, settings in force, who did what."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tis_sync.doctor import examine
from tis_sync.web import audit as audit_log
from tis_sync.web.api.shown import PAGE, Limit, Page
from tis_sync.web.depends import Servers
from tis_sync.web.in_force import in_force
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["health"], responses=PROBLEMS)


class AlarmShown(BaseModel):
    """An alarm: what it means, and what mends it; `closed_at` is null while it is open."""

    kind: str
    subject: str
    text: str
    raised_at: datetime
    closed_at: datetime | None
    run_id: str | None


class FindingShown(BaseModel):
    """A line of the checklist: ok, drifted or missing; and how to mend it."""

    name: str
    state: str
    said: str
    mend: str | None


class AuditShown(BaseModel):
    """Who did what."""

    id: int
    at: datetime
    who: str
    how: str
    action: str
    subject: str
    detail: str
    outcome: str


@router.get("/alarms")
def alarms(s: Servers, closed: bool = False, limit: Limit = PAGE) -> list[AlarmShown]:
    """The alarms that are open, oldest first; or those that were closed, the last in front."""
    found = s.alarms.closed(limit) if closed else s.alarms.open()
    return [AlarmShown(**asdict(alarm)) for alarm in found]


@router.get("/doctor")
def doctor(s: Servers) -> list[FindingShown]:
    """The checklist of everything that the service relies on; looks at it now."""
    return [FindingShown(**asdict(finding)) for finding in examine(s)]


@router.get("/settings")
def settings(s: Servers) -> dict[str, Any]:
    """The settings in force; secrets are told as set, or not."""
    return {setting.name: setting.value for setting in in_force(s.settings)}


@router.get("/audit")
def audit(
    s: Servers, limit: Limit = PAGE, after: Annotated[int | None, Query(ge=0, lt=2**63)] = None
) -> Page[AuditShown]:
    """Who did what, newest first."""
    found = audit_log.entries(s.state, limit + 1, after)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return Page(items=[AuditShown(**asdict(entry)) for entry in found[:limit]], next=more)
