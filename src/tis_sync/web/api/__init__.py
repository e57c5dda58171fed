"""The API, version 1: everything that the command line shows and does, under /sync/api/v1."""

from fastapi import APIRouter, Depends

from tis_sync.web.api import esr, jobs, operations, runs, search
from tis_sync.web.dependencies import viewer

router = APIRouter(prefix="/api/v1", dependencies=[Depends(viewer)])
for module in (jobs, runs, search, esr, operations):
    router.include_router(module.router)
