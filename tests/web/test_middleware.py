"""The middleware: origins, body sizes, rates, slow and malformed requests, headers."""

import asyncio
import socket
import time
from datetime import datetime

import httpx2
import pytest

from tests.conftest import NOW
from tests.web.conftest import Console, console_with
from tis_sync.alarms.catalogue import FAILED
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web.app import create_app
from tis_sync.web.auth import sessions, tokens
from tis_sync.web.problems import INTERNAL_ERROR

NIGHT = "POST /sync/api/v1/night HTTP/1.1\r\nHost: localhost\r\n"
CHANGE = "/api/v1/runs/none/cancel"
NOT_FOUND = 404  # the request passed, and there is no such run


@pytest.fixture
def s(idle: Services) -> Services:
    return idle


def raw(call: Console, request: str, seconds: float = 20) -> str:
    """Send a request byte for byte, and return the answer."""
    with socket.create_connection(("127.0.0.1", call.port), seconds) as connection:
        connection.sendall(request.encode())
        return connection.recv(65536).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, NOT_FOUND),  # a script
        ({"Sec_Fetch_Site": "same-origin"}, NOT_FOUND),
        ({"Sec_Fetch_Site": "none"}, NOT_FOUND),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Cookie": f"{sessions.COOKIE}=x"}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost:port"}, 403),
        ({"Origin": "ftp://localhost"}, 403),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    call: Console, headers: dict[str, str], status: int
) -> None:
    assert call("POST", CHANGE, **headers).status == status


def test_the_origin_of_another_scheme_is_another_site(call: Console) -> None:
    own = call.url
    assert call("POST", CHANGE, origin=own).status == NOT_FOUND
    assert call("POST", CHANGE, origin=own.upper()).status == NOT_FOUND
    assert call("POST", CHANGE, origin=own.replace("http:", "https:")).status == 403


def test_behind_a_proxy_the_public_address_is_the_origin(s: Services) -> None:
    public = {"oidc_issuer": "http://127.0.0.1:9", "web_url": "https://Sync.Example:443"}
    with console_with(s, s.settings.model_copy(update=public)) as call:
        for origin, expected in {
            "https://sync.example": 401,  # passed; nobody is signed in
            "http://sync.example": 403,
            "https://sync.example:8443": 403,
            "https://evil.example": 403,
        }.items():
            answer = call("POST", CHANGE, host="sync.example", origin=origin)
            assert answer.status == expected, origin


@pytest.mark.parametrize("repeated", ["Cookie", "Origin", "Sec-Fetch-Site"])
def test_a_second_header_hides_nothing(call: Console, repeated: str) -> None:
    """The session cookie, or the other site, is in the second of two headers."""
    first, second = {
        "Cookie": ("a=b", f"{sessions.COOKIE}=x"),
        "Origin": (call.url, "https://evil.example"),
        "Sec-Fetch-Site": ("same-origin", "cross-site"),
    }[repeated]
    for one, other in ((first, second), (second, first)):
        answer = raw(
            call,
            f"POST /sync{CHANGE} HTTP/1.1\r\nHost: 127.0.0.1:{call.port}\r\n{repeated}: {one}\r\n"
            f"{repeated}: {other}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        assert answer.startswith("HTTP/1.1 403"), (one, other)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a script, or an old browser
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        # A link on another site.
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            200,
        ),
        # A script, an image and a frame of another site.
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
            },
            403,
        ),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/search?text=a", "/api/v1/doctor", "/health/live"])
def test_a_page_of_another_site_reads_nothing_and_measures_nothing(
    call: Console, path: str, headers: dict[str, str], status: int
) -> None:
    if path.startswith("/search") and status == 200:
        path = "/runs"  # there is no index to search
    assert call("GET", path, **headers).status == status


def test_a_link_on_another_site_may_lead_to_us_but_only_with_get(call: Console) -> None:
    link = {
        "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
    }  # fmt: skip
    for method in ("HEAD", "OPTIONS", "POST"):
        assert call(method, "/runs", **link).status == 403


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "X-Forwarded-Something",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
    ],
)
def test_without_sign_in_requests_through_a_proxy_are_refused(call: Console, header: str) -> None:
    refused = call("GET", "/api/v1/jobs", **{header: "127.0.0.1"})
    assert (refused.status, "TIS_SYNC_OIDC_ISSUER" in refused.json["detail"]) == (403, True)
    assert call("POST", CHANGE, **{header: ""}).status == 403


def test_with_sign_in_requests_through_a_proxy_are_accepted(s: Services) -> None:
    public = {"oidc_issuer": "http://127.0.0.1:9", "web_url": "https://sync.example"}
    secret = tokens.create(s.state, "robot", "view", 1, "test", s.clock())
    with console_with(s, s.settings.model_copy(update=public)) as call:
        answer = call(
            "GET", "/api/v1/jobs", host="sync.example", authorization=f"Bearer {secret}",
            X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="https",
        )  # fmt: skip
    assert answer.status == 200


def test_a_client_on_this_machine_cannot_choose_the_address_by_which_it_is_counted(
    s: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    public = {
        "oidc_issuer": "http://127.0.0.1:9",
        "web_url": "https://sync.example",
        "web_requests_a_minute": 5,
    }

    def answers(settings: Settings) -> list[int]:
        with console_with(s, settings) as call:
            return [
                call("GET", "/api/v1/jobs", X_Forwarded_For=f"192.0.2.{number}").status
                for number in range(12)
            ]

    settings = s.settings.model_copy(update=public)
    assert answers(settings)[-1] == 429
    believed = settings.model_copy(update={"web_proxies": ("127.0.0.0/8",)})
    assert set(answers(believed)) == {401}


def test_without_sign_in_only_this_machine_is_answered_whoever_serves_the_application(
    s: Services,
) -> None:
    async def request(client: str) -> int:
        transport = httpx2.ASGITransport(create_app(s), client=(client, 1234))
        async with httpx2.AsyncClient(transport=transport) as browser:
            return (await browser.get("http://localhost/sync/health/live")).status_code

    for client, expected in {"127.0.0.1": 200, "127.8.9.1": 200, "::1": 200, "192.0.2.1": 403,
                             "2001:db8::1": 403, "unknown": 403}.items():  # fmt: skip
        assert asyncio.run(request(client)) == expected, client


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_every_name_of_this_machine_is_known(call: Console, host: str) -> None:
    for name in (host, f"{host}:{call.port}"):
        assert call("GET", "/health/live", host=name).status == 200, name


@pytest.mark.parametrize(
    "host",
    ["evil.example", "[::2]", "[::1].evil.example", "::1", "localhost.evil.example", "localhost:x",
     "[", "", "127.0.0.1@evil.example"],
)  # fmt: skip
def test_other_names_are_refused_with_all_security_headers(call: Console, host: str) -> None:
    refused = call("GET", "/api/v1/jobs", host=host)
    assert refused.status == 400
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_form_of_our_own_page_is_accepted(call: Console) -> None:
    own = {"Origin": call.url}
    assert call("POST", "/jobs/personOwnerRebuildJob/run", form={}, **own).status == 303


def test_a_body_that_is_too_large_is_refused_before_it_is_read(call: Console) -> None:
    large = call("POST", CHANGE, {"x": "y" * 70_000})
    assert (large.status, "larger than 64,000" in large.json["detail"]) == (413, True)
    answer = raw(
        call,
        NIGHT + "Content-Length: 99999999999\r\n\r\n",
    )
    assert answer.startswith("HTTP/1.1 413")
    chunk = "fa00\r\n" + "x" * 64_000 + "\r\n"
    answer = raw(
        call,
        NIGHT + "Transfer-Encoding: chunked\r\n\r\n" + chunk * 2,
    )
    assert answer.startswith("HTTP/1.1 413")


@pytest.mark.alone
def test_a_slow_client_is_dropped_and_keeps_nobody_waiting(s: Services) -> None:
    quick = s.settings.model_copy(update={"web_body_seconds": 0.5})
    with console_with(s, quick) as call:
        waiting = [socket.create_connection(("127.0.0.1", call.port)) for _ in range(50)]
        for connection in waiting:
            connection.sendall(b"GET /sync/ HTTP/1.1\r\nHost: local")
        start = time.monotonic()
        assert call("GET", "/health/live").status == 200
        assert time.monotonic() - start < 2
        for connection in waiting:
            connection.close()
        answer = raw(
            call,
            NIGHT + "Content-Length: 10\r\n\r\n{",
        )
        assert answer.startswith("HTTP/1.1 408")


def test_a_client_that_sends_too_many_requests_has_to_wait(s: Services) -> None:
    few = s.settings.model_copy(update={"web_requests_a_minute": 5})
    with console_with(s, few) as call:
        answers = [call("GET", "/api/jobs/status") for _ in range(12)]
        assert answers[0].status == 200
        assert (answers[-1].status, answers[-1].headers["retry-after"]) == (429, "60")
        assert call("GET", "/health/live").status == 200


def test_no_path_leads_out_of_the_served_folders(call: Console) -> None:
    for path in (
        "/sync/static/../../../../../etc/passwd",
        "/sync/static/%2e%2e/%2e%2e/app.py",
        "/sync/static/..%2f..%2fapp.py",
        "/sync/static//etc/passwd",
        "/sync/esr/files/..%2f..%2fstate.sqlite",
        "/sync/api/v1/esr/files/..%2f..%2fstate.sqlite/content",
        "/sync/runbook/..%2f..%2fpyproject",
    ):
        answer = raw(call, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert "root:" not in answer
        assert "create_app" not in answer
        assert answer.startswith("HTTP/1.1 404"), path
    nul = call("GET", "/api/v1/jobs/%00")
    assert (nul.status, "NUL" in nul.json["detail"]) == (400, True)


def test_browsers_load_nothing_from_other_sites(call: Console) -> None:
    page = call("GET", "/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    for part in ("<script>", "onclick", "style=", "https://"):
        assert part not in page.text
    for name in ("nhsuk-frontend.min.css", "htmx.min.js", "htmx-sse.min.js"):
        assert call("GET", f"/static/vendor/{name}").status == 200


def test_markup_in_what_is_shown_stays_text(call: Console, s: Services) -> None:
    evil = "<img src=x onerror=alert(1)>"
    s.alarms.open(FAILED, evil, evil, s.clock(), impact=evil)
    call("POST", f"/api/v1/runs/{evil}/cancel")  # is in the audit log
    for path in (
        "/",
        "/health",
        f"/search?text={evil}&owner={evil}&diagnose=x",
        f"/search?diagnose={evil}",
        f"/esr?placement={evil[:20]}",
        f"/runs?job={evil}",
        f"/jobs/{evil}",
        f"/runs/{evil}",
        f"/esr/files/{evil}",
    ):
        page = call("GET", path).text
        assert "<img" not in page, path
        assert "&lt;img" in page, path


def test_an_unexpected_error_is_reported_without_its_details(s: Services) -> None:
    start = iter([NOW])

    def broken() -> datetime:
        for now in start:
            return now
        raise ValueError("an internal detail")

    with console_with(s, s.settings, broken) as call:
        answer = call("GET", "/api/v1/esr/at-risk")
        page = call("GET", "/esr")
    assert (answer.status, answer.json["detail"]) == (500, INTERNAL_ERROR)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (page.status, INTERNAL_ERROR in page.text) == (500, True)
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy"):
        assert name in answer.headers, name
        assert name in page.headers, name
    assert page.headers["cache-control"] == "no-store"
    for text in (answer.text, page.text):
        assert "an internal detail" not in text
        assert "Traceback" not in text
