"""The application: its routers under /sync, and its middleware."""

from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tis_sync import __version__
from tis_sync.errors import UsageError
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web import api, health, legacy_api, metrics, pages, problems
from tis_sync.web.auth.oidc import Provider
from tis_sync.web.dependencies import Viewer
from tis_sync.web.feeds import Feeds
from tis_sync.web.middleware import (
    BodyLimit,
    RateLimit,
    RejectNul,
    SecurityHeaders,
)
from tis_sync.web.origins import HOSTS, LocalOnly, SameOrigin
from tis_sync.web.pages import signin
from tis_sync.web.presenters.tonight import COUNT_SECONDS, Cached, count_indexes
from tis_sync.web.templates import FOLDER

BASE = "/sync"


class Console(FastAPI):
    """The application with security headers in every answer, also in that to an unexpected error.

    Args:
        settings: the settings of the console.
        options: as for FastAPI.

    """

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def build_middleware_stack(self) -> ASGIApp:
        """Put the headers around everything: unexpected errors are answered outside all layers."""
        return SecurityHeaders(super().build_middleware_stack(), self._settings)


def create_app(services: Services) -> FastAPI:
    """Create the application over the services of one process.

    Args:
        services: the services. If this process works too (`tis_sync.app.session`), it carries out
            what is requested; otherwise workers do.

    Raises:
        UsageError: see `check_access`.

    """
    settings = services.settings
    check_access(settings)
    app = Console(
        settings,
        title="tis-sync",
        version=__version__,
        description="Runs, search, the export to ESR, alarms; start jobs and exports.",
        openapi_url=None,  # served by a route of our own, to viewers only
        docs_url=None,  # its page would load scripts from another site
        redoc_url=None,
    )
    app.state.services = services
    app.state.feeds = Feeds()
    app.state.index_counts = Cached(lambda: count_indexes(services), COUNT_SECONDS)
    signs_in = settings.oidc_issuer is not None
    app.state.provider = Provider(settings, services.clock) if signs_in else None
    _add_middleware(app, settings)
    problems.install(app)
    for module in (health, legacy_api, api, metrics, signin, pages):
        app.include_router(module.router, prefix=BASE)
    app.get("/", include_in_schema=False)(lambda: RedirectResponse(f"{BASE}/"))
    app.get(f"{BASE}/api/v1/openapi.json", include_in_schema=False)(_description)
    app.mount(f"{BASE}/static", StaticFiles(directory=FOLDER / "static"))
    return app


def _description(request: Request, _: Viewer) -> JSONResponse:
    """The OpenAPI description of the API."""
    return JSONResponse(request.app.openapi())


def check_access(settings: Settings) -> None:
    """Check that whoever can reach the console has to sign in.

    Raises:
        UsageError: a sign-in provider is configured, but not the URL of the console; or the URL,
            but no provider.

    """
    if settings.oidc_issuer is not None and settings.web_url is None:
        raise UsageError(
            "TIS_SYNC_OIDC_ISSUER is set, so TIS_SYNC_WEB_URL is needed too: the URL at which "
            "people reach the console (https://HOST). The provider sends browsers back there."
        )
    if settings.web_url is not None and settings.oidc_issuer is None:
        raise UsageError(
            f"TIS_SYNC_WEB_URL is {settings.web_url}, so others can reach the console, but nobody "
            "would have to sign in. Set TIS_SYNC_OIDC_ISSUER too, or unset TIS_SYNC_WEB_URL to "
            "serve this machine only."
        )


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Add the layers; a request passes the last one first."""
    hosts = [*HOSTS, *([urlsplit(settings.web_url).hostname or ""] if settings.web_url else [])]
    app.add_middleware(
        BodyLimit, max_bytes=settings.web_body_bytes, seconds=settings.web_body_seconds
    )
    app.add_middleware(SameOrigin, settings=settings)
    app.add_middleware(RejectNul)
    app.add_middleware(RateLimit, per_minute=settings.web_requests_a_minute)
    if settings.oidc_issuer is None:
        app.add_middleware(LocalOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
