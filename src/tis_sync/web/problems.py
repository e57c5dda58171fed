"""Errors: problem+json (RFC 9457) for programs, a page for people; what was wrong, what to do."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from tis_sync.errors import (
    AlreadyRunningError,
    NotFoundError,
    SchemaError,
    TisSyncError,
    UnreachableError,
    UsageError,
)
from tis_sync.logs import get
from tis_sync.web.templates import page
from tis_sync.web.who import NotAllowedError, NotSignedInError

STATUS = (
    (NotSignedInError, HTTPStatus.UNAUTHORIZED),
    (NotAllowedError, HTTPStatus.FORBIDDEN),
    (AlreadyRunningError, HTTPStatus.CONFLICT),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (UnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (SchemaError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TisSyncError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
FOR_PROGRAMS = ("/sync/api", "/sync/health/", "/sync/metrics", "/sync/live")


class Problem(BaseModel):
    """What was wrong, and what to do."""

    type: str
    title: str
    status: int
    detail: str


# What every call of the API may answer beside what it was asked for.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {
        "application/problem+json": {"schema": Problem.model_json_schema()}
    }}
    for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503)
}  # fmt: skip


def problem(status: HTTPStatus, detail: str) -> JSONResponse:
    """A problem, as its own media type."""
    body = Problem(type="about:blank", title=status.phrase, status=status, detail=detail)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body.model_dump(), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Have every error of an application told as a problem, or as a page."""

    @app.exception_handler(NotSignedInError)
    async def unknown(request: Request, error: NotSignedInError) -> Response:
        given = "authorization" in request.headers
        if request.method == "GET" and not given and not _for_a_program(request):
            asked = quote(f"{request.url.path}?{request.url.query}".rstrip("?"))
            return RedirectResponse(f"/sync/signin?next={asked}", HTTPStatus.SEE_OTHER)
        return _told(request, HTTPStatus.UNAUTHORIZED, str(error))

    @app.exception_handler(TisSyncError)
    async def known(request: Request, error: TisSyncError) -> Response:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return _told(request, status, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(
            f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
            for found in error.errors()
        )
        return _told(request, HTTPStatus.UNPROCESSABLE_ENTITY, said)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        answer = _told(request, HTTPStatus(error.status_code), str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        get().error("unexpected", path=request.url.path, reason=str(error)[:300])
        return _told(request, HTTPStatus.INTERNAL_SERVER_ERROR, "Our mistake; the log says more.")


def _for_a_program(request: Request) -> bool:
    return request.url.path.startswith(FOR_PROGRAMS)


def _told(request: Request, status: HTTPStatus, detail: str) -> Response:
    if _for_a_program(request):
        return problem(status, detail)
    return page(request, "error.html", status_code=status, title=status.phrase, detail=detail)
