"""Errors as problem+json (RFC 9457): what was wrong, with what value, what to do."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tis_sync.errors import AlreadyRunningError, TisSyncError, UnreachableError, UsageError
from tis_sync.logs import get

STATUS = (
    (AlreadyRunningError, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.NOT_FOUND),
    (UnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TisSyncError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


def problem(status: HTTPStatus, detail: str) -> JSONResponse:
    """A problem, as its own media type."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Have every error of an application told as a problem."""

    @app.exception_handler(TisSyncError)
    async def known(_: Request, error: TisSyncError) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return problem(status, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(
            f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
            for found in error.errors()
        )
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, said)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return problem(HTTPStatus(error.status_code), str(error.detail))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        get().error("unexpected", path=request.url.path, reason=str(error)[:300])
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Our mistake; the log says more.")
