"""What several pages share: form fields, titles of jobs, the redirect after a form."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Form
from fastapi.responses import RedirectResponse

from tis_sync.jobs.catalogue import JOBS
from tis_sync.web.dependencies import LONGEST_KEY
from tis_sync.web.presenters.charts import title_of

TITLES = {job.name: title_of(job) for job in JOBS}
KEYS = {job.name: job.key for job in JOBS}
Key = Annotated[str | None, Form(max_length=LONGEST_KEY)]
Checkbox = Annotated[bool, Form()]


def redirect(path: str) -> RedirectResponse:
    """Redirect to another page with GET, so that a reload does not send a form again."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
