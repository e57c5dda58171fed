"""Dependencies of requests: the services of this process, the caller, and the caller's roles."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from tis_sync import audit
from tis_sync.runs.services import Services
from tis_sync.web.auth import callers
from tis_sync.web.auth.identity import Caller, NotAllowedError
from tis_sync.web.auth.oidc import Provider
from tis_sync.web.feeds import Feeds

LONGEST_KEY = 200  # characters of an idempotency key
LARGEST_INTEGER = 2**63  # the integers of a database are smaller


def _services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    return _services_of(request)


async def _feeds(request: Request) -> Feeds:
    feeds: Feeds = request.app.state.feeds
    return feeds


Servers = Annotated[Services, Depends(_services)]
LiveFeeds = Annotated[Feeds, Depends(_feeds)]


def provider_of(request: Request) -> Provider | None:
    """Return the sign-in provider.

    None: none is configured. Then nobody signs in, and only this machine is answered.
    """
    provider: Provider | None = request.app.state.provider
    return provider


async def caller(request: Request) -> Caller:
    """Return the caller, whatever it may do.

    Raises:
        NotSignedInError, NotAllowedError, UnreachableError: see `callers.caller_of`.

    """
    return await callers.caller_of(_services_of(request), provider_of(request), request)


Identified = Annotated[Caller, Depends(caller)]


async def viewer(request: Request, user: Identified) -> Caller:
    """Return a caller who may see pages and lists.

    Raises:
        NotAllowedError: the caller may only read the metrics.

    """
    if not user.can_view:
        role = _services_of(request).settings.oidc_view_role
        raise NotAllowedError(
            f"{user.name} may only read the metrics. Seeing more needs the role {role!r}."
        )
    return user


async def _lookup(request: Request) -> Callable[[], Awaitable[Caller]]:
    async def again() -> Caller:
        return await viewer(request, await caller(request))

    return again


# Looks the caller of a stream up again; see `tis_sync.web.feeds.while_allowed`.
CallerLookup = Annotated[Callable[[], Awaitable[Caller]], Depends(_lookup)]


def _run_id(run_id: str, s: Servers) -> str:
    return s.history.get(run_id).id


# The full id of the run in the path. An event stream needs it before the answer begins: an error
# after that could no longer become a status code.
RunId = Annotated[str, Depends(_run_id)]
Viewer = Annotated[Caller, Depends(viewer)]


def _updater(request: Request, user: Viewer) -> Caller:
    if not user.can_update:
        s = _services_of(request)
        audit.record(
            s.state,
            s.clock(),
            user.actor,
            action=request.method,
            subject=request.url.path,
            outcome="refused: read-only access",
        )
        role = s.settings.oidc_update_role
        raise NotAllowedError(
            f"{user.name} has read-only access. Changing something needs the role {role!r}."
        )
    return user


Updater = Annotated[Caller, Depends(_updater)]
