"""Dependencies of requests: the services of this process, the caller, and the caller's roles."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from tis_sync import audit
from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services
from tis_sync.web.auth import callers
from tis_sync.web.auth.identity import Caller, NotAllowedError
from tis_sync.web.auth.oidc import Provider
from tis_sync.web.feeds import Feeds

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # they change nothing
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
        if request.method not in SAFE_METHODS:
            await run_in_threadpool(_record_refusal, request, user, "access to the metrics only")
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


async def note_refusal(request: Request, reason: str) -> None:
    """Record that a request to change something was refused before it reached an action."""
    try:
        user = await caller(request)
        await run_in_threadpool(_record_refusal, request, user, reason)
    except TisSyncError:  # nobody we know, or no state database: the log has to do
        audit.refused(request.method, request.url.path, reason)


def _record_refusal(request: Request, user: Caller, reason: str) -> None:
    s = _services_of(request)
    outcome, path = f"refused: {reason}", request.url.path
    audit.record(s.state, s.clock(), user.actor, request.method, path, outcome)


def _updater(request: Request, user: Viewer) -> Caller:
    if not user.can_update:
        _record_refusal(request, user, "read-only access")
        role = _services_of(request).settings.oidc_update_role
        raise NotAllowedError(
            f"{user.name} has read-only access. Changing something needs the role {role!r}."
        )
    return user


Updater = Annotated[Caller, Depends(_updater)]
