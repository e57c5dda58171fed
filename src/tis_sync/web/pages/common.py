"""What several pages share: where a form leads back to, jobs by name, a form's fields."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Form
from fastapi.responses import RedirectResponse

from tis_sync.jobs.catalogue import JOBS
from tis_sync.web.api.shown import LONGEST_KEY
from tis_sync.web.picture import title_of

TITLES = {job.name: title_of(job) for job in JOBS}
KEYS = {job.name: job.key for job in JOBS}
Key = Annotated[str | None, Form(max_length=LONGEST_KEY)]
Ticked = Annotated[bool, Form()]


def see(path: str) -> RedirectResponse:
    """Show another page, by GET: a reload of it then sends nothing again."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
