"""Errors as answers: problem+json (RFC 9457) for programs, a page for people."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from tis_sync import audit
from tis_sync.errors import (
    AlreadyRunningError,
    NotFoundError,
    PreviewNeededError,
    SchemaError,
    TisSyncError,
    UnreachableError,
    UsageError,
)
from tis_sync.logs import report
from tis_sync.web.auth.identity import NotAllowedError, NotSignedInError
from tis_sync.web.dependencies import SAFE_METHODS, note_refusal
from tis_sync.web.templates import page

# The first class that fits decides, so a subclass stands before its base class.
STATUS = (
    (NotSignedInError, HTTPStatus.UNAUTHORIZED),
    (NotAllowedError, HTTPStatus.FORBIDDEN),
    (AlreadyRunningError, HTTPStatus.CONFLICT),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (PreviewNeededError, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (UnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (SchemaError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TisSyncError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
FOR_PROGRAMS = ("/sync/api", "/sync/health/", "/sync/metrics", "/sync/live")
INTERNAL_ERROR = "This is an error in tis-sync. Its log contains the details."


class Problem(BaseModel):
    """What is wrong, and what to do."""

    type: str
    title: str
    status: int
    detail: str


# Answers of every call of the API beside its own.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503)
}


def problem(status: HTTPStatus, detail: str) -> JSONResponse:
    """Return a problem document."""
    body = Problem(type="about:blank", title=status.phrase, status=status, detail=detail)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body.model_dump(), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem document or a page."""

    @app.exception_handler(NotSignedInError)
    async def not_signed_in(request: Request, error: NotSignedInError) -> Response:
        if request.method not in SAFE_METHODS:
            audit.refused(request.method, request.url.path, str(error))
        has_token = "authorization" in request.headers
        if request.method == "GET" and not has_token and not _is_for_program(request):
            target = quote(f"{request.url.path}?{request.url.query}".rstrip("?"))
            return RedirectResponse(f"/sync/signin?next={target}", HTTPStatus.SEE_OTHER)
        return _answer(request, HTTPStatus.UNAUTHORIZED, str(error))

    @app.exception_handler(TisSyncError)
    async def expected(request: Request, error: TisSyncError) -> Response:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return _answer(request, status, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        detail = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        if request.method not in SAFE_METHODS:
            await note_refusal(request, detail)
        return _answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        answer = _answer(request, HTTPStatus(error.status_code), str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        report("unexpected error", error, path=request.url.path)
        return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR)


def _is_for_program(request: Request) -> bool:
    return request.url.path.startswith(FOR_PROGRAMS)


def _answer(request: Request, status: HTTPStatus, detail: str) -> Response:
    if _is_for_program(request):
        return problem(status, detail)
    return page(request, "error.html", status_code=status, title=status.phrase, detail=detail)
