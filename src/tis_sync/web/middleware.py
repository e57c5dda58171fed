"""ASGI layers in front of the application: body size, rate, origin, security headers.

Cross-site requests are recognised by the headers with which browsers describe a request
(Sec-Fetch-Site, Origin). No page can forge them, and any replica can check them; see
docs/decisions/0010.
"""

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tis_sync import audit
from tis_sync.settings.model import Settings
from tis_sync.web.auth.sessions import COOKIE
from tis_sync.web.problems import SAFE_METHODS, problem

NOT_COUNTED = ("/sync/static/", "/sync/health/")
HSTS_SECONDS = 31_536_000  # a year


class RateLimit:
    """Refuses requests of an address that sends more per minute than allowed."""

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        self.app = app
        self._limit = parse(f"{per_minute}/minute")
        self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request, and refuse it if there were too many."""
        counted = scope["type"] == "http" and not scope["path"].startswith(NOT_COUNTED)
        address = (scope.get("client") or ("?",))[0]
        if counted and not self._counts.hit(self._limit, address):
            answer = problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{address} sent more than {self._limit.amount} requests in a minute. Wait a "
                "minute.",
            )
            answer.headers["Retry-After"] = "60"
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


class RejectNul:
    """Refuses URLs with a NUL character: no URL of ours has one, and databases reject it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a URL that contains a NUL."""
        if scope["type"] == "http" and b"%00" in scope["raw_path"] + scope["query_string"]:
            answer = problem(HTTPStatus.BAD_REQUEST, "The URL contains a NUL character.")
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


class SameOrigin:
    """Refuses requests that change something and were sent by a page of another site."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request of another site."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            if not _is_same_origin(headers):
                audit.refused(scope["method"], scope["path"], "sent by a page of another site")
                answer = problem(
                    HTTPStatus.FORBIDDEN, "This request was sent by a page of another site."
                )
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_same_origin(headers: Headers) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host")
    # Every current browser sends at least one of the two with a POST. Without both, the request
    # comes from a script, and a script has no session cookie.
    return COOKIE not in headers.get("cookie", "")


class BodyLimit:
    """Refuses bodies that are too large or arrive too slowly."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the whole body before the application sees the request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._whole_body(headers, receive), self._seconds)
        except TimeoutError:
            answer = problem(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The body did not arrive within {self._seconds:g} seconds.",
            )
            await answer(scope, receive, send)
            return
        if body is None:
            answer = problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The body is larger than {self._max_bytes:,} bytes.",
            )
            await answer(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _whole_body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None: it is too large."""
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_bytes:
            return None
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > self._max_bytes:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return body


class SecurityHeaders:
    """Adds headers: load nothing from other sites, show in no frame, cache nothing."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        # The form that signs out is redirected to the provider, and browsers apply form-action to
        # redirects too.
        issuer = urlsplit(settings.oidc_issuer or "")
        form_targets = f"'self' {issuer.scheme}://{issuer.netloc}" if issuer.netloc else "'self'"
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                f"connect-src 'self'; form-action {form_targets}; base-uri 'none'; "
                "frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if (settings.web_url or "").startswith("https:"):
            self._headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers, unless the answer sets them itself."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)
