"""The pages under /sync/: Tonight, runs, jobs, Search, ESR, Health. All work without scripts."""

from fastapi import APIRouter, Depends

from tis_sync.web.dependencies import viewer
from tis_sync.web.pages import esr, health, jobs, runs, search, tonight

router = APIRouter(dependencies=[Depends(viewer)], include_in_schema=False)
for module in (tonight, jobs, runs, search, esr, health):
    router.include_router(module.router)
