"""The application: routers under /sync, and what stands between them and the world."""

from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from tis_sync import __version__
from tis_sync.errors import UsageError
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.web import api, health, metrics, old, pages, problems, signin
from tis_sync.web.depends import Viewer
from tis_sync.web.live import Live
from tis_sync.web.provider import Provider
from tis_sync.web.shield import Bodies, Rates, SafeHeaders, SameOrigin, Sense
from tis_sync.web.templates import HERE
from tis_sync.web.tonight import COUNT_SECONDS, Remembered, count_indexes

BASE = "/sync"
# Names that lead to this machine. Where nobody signs in there are no others: a page of another
# site that a browser has open here can then not have its own name lead to us.
HOSTS = ["127.0.0.1", "localhost"]


def create_app(services: Services) -> FastAPI:
    """The application over the servers of one process.

    Args:
        services: the servers; where the process works too (`tis_sync.runs.session`), it carries
            out what is asked for, else workers do.

    Raises:
        UsageError: a sign-in provider is named, but not where people reach us.

    """
    settings = services.settings
    app = FastAPI(
        title="tis-sync",
        version=__version__,
        description="What runs, what ran, what is wrong; and jobs and exports by hand.",
        openapi_url=None,  # told by a route of its own, to those who may look
        docs_url=None,  # its page would come from a network that may not be there
        redoc_url=None,
    )
    app.state.services = services
    app.state.live = Live()
    app.state.counts = Remembered(lambda: count_indexes(services), COUNT_SECONDS)
    app.state.provider = _provider(services)
    _shield(app, settings)
    problems.install(app)
    for part in (health, old, api, metrics, signin, pages):
        app.include_router(part.router, prefix=BASE)
    app.get("/", include_in_schema=False)(lambda: RedirectResponse(f"{BASE}/"))
    app.get(f"{BASE}/api/v1/openapi.json", include_in_schema=False)(_description)
    app.mount(f"{BASE}/static", StaticFiles(directory=HERE / "static"))
    return app


def _description(request: Request, _: Viewer) -> JSONResponse:
    """The API's description, to those who may look."""
    return JSONResponse(request.app.openapi())


def _provider(services: Services) -> Provider | None:
    settings = services.settings
    if settings.oidc_issuer is None:
        return None
    if settings.web_url is None:
        raise UsageError(
            "TIS_SYNC_OIDC_ISSUER is set, but not TIS_SYNC_WEB_URL: where people reach the console "
            "from outside (https://HOST), so that the provider can lead them back."
        )
    return Provider(settings, services.clock)


def _shield(app: FastAPI, settings: Settings) -> None:
    """Layers; the last one added is the first that a request meets."""
    hosts = [*HOSTS, *([urlsplit(settings.web_url).hostname or ""] if settings.web_url else [])]
    app.add_middleware(Bodies, most=settings.web_body_bytes, seconds=settings.web_body_seconds)
    app.add_middleware(SameOrigin)
    app.add_middleware(Sense)
    app.add_middleware(Rates, a_minute=settings.web_requests_a_minute)
    app.add_middleware(SafeHeaders, settings=settings)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
