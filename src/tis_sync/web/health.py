"""Does the process live, and can it work?"""

from http import HTTPStatus

import sqlalchemy as sa
from fastapi import APIRouter, Response

from tis_sync.runs.workers import living
from tis_sync.web.depends import Servers

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready")
def ready(s: Servers, response: Response) -> dict[str, str]:
    """It can work: its state answers, and a scheduler lives. 503 where not."""
    found = {"state": "ok", "scheduler": "ok"}
    try:
        with s.state.connect() as connection:
            connection.execute(sa.select(1))
        # A process that only answers is ready without workers; that none lives is an alarm.
        if s.works and not living(s.state, s.clock(), s.settings.dead_after_seconds):
            found["scheduler"] = "silent"
    except Exception as error:  # noqa: BLE001  whatever it is, it is not ready
        found["state"] = type(error).__name__
    if set(found.values()) != {"ok"}:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return found
