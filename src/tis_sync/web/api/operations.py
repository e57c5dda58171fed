"""Operations: alarms, the checks of the doctor, effective settings, the audit log."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, WithJsonSchema

from tis_sync import audit as audit_log
from tis_sync.alarms.catalogue import KINDS, Resolution, Severity
from tis_sync.alarms.store import Alarm
from tis_sync.app import examine
from tis_sync.audit import Entry
from tis_sync.doctor.finding import Finding
from tis_sync.web.api.schemas import PAGE, Limit, Page
from tis_sync.web.dependencies import LARGEST_INTEGER, Servers, Updater
from tis_sync.web.presenters.effective_settings import effective_settings
from tis_sync.web.problems import PROBLEMS

router = APIRouter(tags=["operations"], responses=PROBLEMS)
KindName = Annotated[str, WithJsonSchema({"type": "string", "enum": [kind.name for kind in KINDS]})]


class AlarmDetails(BaseModel):
    """An alarm. `closed_at` is null while it is open. Times are UTC.

    `resolution` and `closing` say why it was closed; `severity` never falls while it is open.
    """

    kind: KindName
    subject: str
    text: str
    raised_at: datetime
    closed_at: datetime | None
    run_id: str | None
    severity: Severity
    resolution: Resolution | None
    closing: str | None


def _alarm(alarm: Alarm) -> AlarmDetails:
    return AlarmDetails(
        kind=alarm.kind.name,
        subject=alarm.subject,
        text=alarm.text,
        raised_at=alarm.raised_at,
        closed_at=alarm.closed_at,
        run_id=alarm.run_id,
        severity=alarm.severity,
        resolution=alarm.resolution,
        closing=alarm.closing,
    )


@router.get("/alarms")
def alarms(s: Servers, closed: bool = False, limit: Limit = PAGE) -> list[AlarmDetails]:
    """The open alarms, oldest first; or the closed ones, last closed first."""
    found = s.alarms.closed_alarms(limit) if closed else s.alarms.open_alarms()
    return [_alarm(alarm) for alarm in found]


@router.get("/doctor")
def doctor(s: Servers) -> list[Finding]:
    """Check everything that the service relies on, by reading only.

    `POST` also checks that files and messages are accepted.
    """
    return examine(s, writes=False)


@router.post("/doctor")
def doctor_with_probes(s: Servers, user: Updater) -> list[Finding]:
    """Check everything that the service relies on; probes are sent to destination and broker."""
    with audit_log.audited(s.state, s.clock(), user.actor, "check", "everything"):
        return examine(s)


@router.get("/settings")
def settings(s: Servers) -> dict[str, Any]:
    """The effective settings. Secrets are not shown, only whether they are set."""
    return {setting.name: setting.value for setting in effective_settings(s.settings)}


@router.get("/audit")
def audit(
    s: Servers,
    limit: Limit = PAGE,
    after: Annotated[int | None, Query(ge=0, lt=LARGEST_INTEGER)] = None,
) -> Page[Entry]:
    """The audit log: who did what, newest first."""
    found = audit_log.entries(s.state, limit + 1, after)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return Page(items=found[:limit], next=more)
