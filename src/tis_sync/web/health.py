"""Health endpoints: is the process alive, and can it work?"""

from http import HTTPStatus

import sqlalchemy as sa
from fastapi import APIRouter, Response

from tis_sync.web.dependencies import Servers
from tis_sync.workers.cluster import live_workers

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers. This needs no thread: they may all be waiting for a server."""
    return {"status": "ok"}


@router.get("/ready")
def ready(s: Servers, response: Response) -> dict[str, str]:
    """The process can work: the state database answers, and a scheduler is alive. 503 if not.

    `alarms` says whether alarms are open. It does not make the process unready: the console is
    needed most then.
    """
    checks = {"state": "ok", "scheduler": "ok"}
    alarms = "unknown"
    try:
        with s.state.read() as connection:
            connection.execute(sa.select(1))
        number = len(s.alarms.open_alarms())
        alarms = f"{number} open" if number else "ok"
        # A process that only answers is ready without workers; a missing worker is an alarm.
        if s.engine is not None and not live_workers(s):
            checks["scheduler"] = "silent"
    except Exception as error:  # noqa: BLE001  whatever the error is, the process is not ready
        checks["state"] = type(error).__name__
    if set(checks.values()) != {"ok"}:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return {**checks, "alarms": alarms}
