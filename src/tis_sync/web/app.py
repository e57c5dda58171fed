"""The application: routers under /sync, errors as problem+json, requests from this machine only."""

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tis_sync import __version__
from tis_sync.runs.services import Services
from tis_sync.web import api, health, old, problems

BASE = "/sync"
# Nobody signs in yet: the service answers on loopback only, and to no other name. A page of another
# site that a browser has open here can then not have its own name lead to us.
HOSTS = ["127.0.0.1", "localhost"]


def create_app(services: Services) -> FastAPI:
    """The application over the servers of one process.

    Args:
        services: the servers; the process carries out runs (`tis_sync.runs.session`).

    """
    app = FastAPI(
        title="tis-sync",
        version=__version__,
        description="What runs, what ran, what is wrong; and jobs by hand.",
        openapi_url=f"{BASE}/api/v1/openapi.json",
        docs_url=None,  # its page would come from a network that may not be there
        redoc_url=None,
    )
    app.state.services = services
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    problems.install(app)
    for router in (health.router, old.router, api.router):
        app.include_router(router, prefix=BASE)
    return app
