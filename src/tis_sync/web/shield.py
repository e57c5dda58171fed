"""What stands between the world and the application: sizes, rates, origins, headers.

Each is a small ASGI layer. Cross-site requests are told by what browsers say of themselves
(Sec-Fetch-Site, Origin), which no page can forge and any replica can judge; docs/decisions/0010.
"""

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tis_sync.settings import Settings
from tis_sync.web.problems import problem
from tis_sync.web.sessions import COOKIE

SAFE = {"GET", "HEAD", "OPTIONS"}
UNCOUNTED = ("/sync/static/", "/sync/health/")
HSTS_SECONDS = 31_536_000


class Rates:
    """No address makes more requests a minute than the setting says."""

    def __init__(self, app: ASGIApp, a_minute: int) -> None:
        self.app = app
        self._limit = parse(f"{a_minute}/minute")
        self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request; refuse it where there were too many."""
        counted = scope["type"] == "http" and not scope["path"].startswith(UNCOUNTED)
        address = (scope.get("client") or ("?",))[0]
        if counted and not self._counts.hit(self._limit, address):
            answer = problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{address} made more requests than {self._limit} allow; wait a minute.",
            )
            answer.headers["Retry-After"] = "60"
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Sense:
    """What no address of ours can hold, and databases choke on, is refused at the door."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse an address with a NUL in it."""
        if scope["type"] == "http" and b"%00" in scope["raw_path"] + scope["query_string"]:
            said = "The address holds a NUL character."
            await problem(HTTPStatus.BAD_REQUEST, said)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class SameOrigin:
    """Nothing is changed by a request that a page of another site had a browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what comes from another site."""
        if scope["type"] == "http" and scope["method"] not in SAFE:
            headers = Headers(scope=scope)
            if not _same_origin(headers):
                answer = problem(
                    HTTPStatus.FORBIDDEN, "This request was made by a page of another site."
                )
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _same_origin(headers: Headers) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host")
    # No browser of today sends neither with a POST; where one has signed in, it must say.
    return COOKIE not in headers.get("cookie", "")


class Bodies:
    """A body is small, and comes soon, or is not taken at all."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the whole body before anything else is done."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._whole(headers, receive), self._seconds)
        except TimeoutError:
            said = f"The body did not come within {self._seconds:g} seconds."
            await problem(HTTPStatus.REQUEST_TIMEOUT, said)(scope, receive, send)
            return
        if body is None:
            said = f"The body is larger than {self._most:,} bytes."
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)(scope, receive, send)
            return
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self.app(scope, again, send)

    async def _whole(self, headers: Headers, receive: Receive) -> bytes | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most:
            return None
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > self._most:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return body


class SafeHeaders:
    """What browsers are told: nothing from elsewhere, in no frame, kept by nobody."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        # A form that signs out leads on to the provider, which browsers count as its action.
        issuer = urlsplit(settings.oidc_issuer or "")
        actions = f"'self' {issuer.scheme}://{issuer.netloc}" if issuer.netloc else "'self'"
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                f"connect-src 'self'; form-action {actions}; base-uri 'none'; "
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
        """Add the headers to every answer that does not say otherwise."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)
