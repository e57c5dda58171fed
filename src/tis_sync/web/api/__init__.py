"""API, version 1: everything that the command line shows and does, as JSON, under /sync/api/v1."""

from fastapi import APIRouter, Depends

from tis_sync.web.api import esr, find, jobs, runs, wellbeing
from tis_sync.web.depends import caller

router = APIRouter(prefix="/api/v1", dependencies=[Depends(caller)])
for part in (jobs, runs, find, esr, wellbeing):
    router.include_router(part.router)
