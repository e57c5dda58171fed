"""Is all well? Alarms, the doctor's checklist, settings in force, who did what."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tis_sync.alerts.alarms import Alarm
from tis_sync.doctor import Finding, examine
from tis_sync.web import audit as audit_log
from tis_sync.web.api.shown import PAGE, Limit, Page
from tis_sync.web.audit import Entry
from tis_sync.web.depends import Servers
from tis_sync.web.in_force import in_force
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["health"], responses=PROBLEMS)


@router.get("/alarms")
def alarms(s: Servers, closed: bool = False, limit: Limit = PAGE) -> list[Alarm]:
    """The alarms that are open, oldest first; or those that were closed, the last in front."""
    return s.alarms.closed(limit) if closed else s.alarms.open()


@router.get("/doctor")
def doctor(s: Servers) -> list[Finding]:
    """The checklist of everything that the service relies on; looks at it now."""
    return examine(s)


@router.get("/settings")
def settings(s: Servers) -> dict[str, Any]:
    """The settings in force; secrets are told as set, or not."""
    return {setting.name: setting.value for setting in in_force(s.settings)}


@router.get("/audit")
def audit(
    s: Servers, limit: Limit = PAGE, after: Annotated[int | None, Query(ge=0, lt=2**63)] = None
) -> Page[Entry]:
    """Who did what, newest first."""
    found = audit_log.entries(s.state, limit + 1, after)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return Page(items=found[:limit], next=more)
