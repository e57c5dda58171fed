"""ASGI layers that decide from which sites and machines requests are accepted.

Cross-site requests are recognised by the headers with which browsers describe a request
(Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Origin). No page can forge them, and any replica
can check them; see docs/decisions/0010.
"""

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tis_sync import audit
from tis_sync.settings.model import Settings
from tis_sync.web.auth.sessions import COOKIE
from tis_sync.web.dependencies import SAFE_METHODS
from tis_sync.web.problems import problem

PORTS = {"http": 80, "https": 443}
# Names of this machine. Without sign-in no others are accepted, so that a page of another site in
# a browser on this machine cannot reach the console through a name of its own (DNS rebinding).
HOSTS = ["127.0.0.1", "localhost", "[::1]"]
# What proxies add to a request, besides everything that begins with "x-forwarded".
FORWARDING = {
    "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-host",
    "x-original-forwarded-for", "x-envoy-external-address", "x-azure-clientip", "true-client-ip",
    "cf-connecting-ip", "fastly-client-ip",
}  # fmt: skip

Origin = tuple[str, str, int | None]


class LocalOnly:
    """Refuses requests that do not come from this machine itself; for a console without sign-in.

    A request with forwarding headers came through a proxy: whoever sent it is not on this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request from elsewhere."""
        if scope["type"] == "http":
            found = [name for name in Headers(scope=scope) if _is_forwarding(name)]
            address = (scope.get("client") or ("?",))[0]
            if found or not _is_loopback(address):
                how = f"through a proxy ({found[0]})" if found else f"from {address}"
                _log_refusal(scope, f"sent {how}, without sign-in")
                answer = problem(
                    HTTPStatus.FORBIDDEN,
                    f"This request came {how}, and without sign-in the console answers only the "
                    "machine it runs on. Set TIS_SYNC_OIDC_ISSUER, or use an SSH tunnel.",
                )
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _log_refusal(scope: Scope, reason: str) -> None:
    """Log that a request to change something was refused."""
    if scope["method"] not in SAFE_METHODS:
        audit.refused(scope["method"], scope["path"], reason)


def _is_forwarding(header: str) -> bool:
    return header in FORWARDING or header.startswith("x-forwarded")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class SameOrigin:
    """Refuses requests of pages of other sites, except links that lead to us.

    What such a page cannot read, it could still measure: how long an answer takes, for example.

    Args:
        app: the application.
        settings: the public address of the console.

    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._public = None if settings.web_url is None else _origin(settings.web_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request of another site."""
        if scope["type"] == "http" and not self._is_accepted(scope):
            _log_refusal(scope, "sent by a page of another site")
            answer = problem(
                HTTPStatus.FORBIDDEN, "This request was sent by a page of another site."
            )
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_accepted(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        # A header may be repeated. Each one counts, or the second could hide behind the first.
        if sites := headers.getlist("sec-fetch-site"):
            is_ours = all(site in {"same-origin", "none"} for site in sites)
            return is_ours or _is_link(scope, headers)
        # A browser that asks first (OPTIONS) learns nothing from our answer.
        if (origins := headers.getlist("origin")) and scope["method"] != "OPTIONS":
            own = self._public or _origin(f"{scope['scheme']}://{headers.get('host', '')}")
            return own is not None and all(_origin(origin) == own for origin in origins)
        # Every current browser sends at least one of the two with a POST. Without both, the request
        # comes from a script, and a script has no session cookie.
        is_safe = scope["method"] in SAFE_METHODS
        return is_safe or not any(COOKIE in cookie for cookie in headers.getlist("cookie"))


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether the browser follows a link to a page of ours, in a window of its own."""
    return (
        scope["method"] == "GET"
        and headers.getlist("sec-fetch-mode") == ["navigate"]
        and headers.getlist("sec-fetch-dest") == ["document"]
    )


def _origin(url: str) -> Origin | None:
    """The scheme, host and port of a URL; None: it has none, or is malformed."""
    try:
        parts = urlsplit(url.lower())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]
