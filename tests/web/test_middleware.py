"""The middleware: origins, body sizes, rates, slow and malformed requests, headers."""

import socket
import time
from datetime import datetime

import pytest

from tests.conftest import NOW
from tests.web.conftest import Console, console_with
from tis_sync.alarms.catalogue import FAILED
from tis_sync.runs.services import Services
from tis_sync.web.auth import sessions
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
    ],
)
def test_a_page_of_another_site_changes_nothing(
    call: Console, headers: dict[str, str], status: int
) -> None:
    assert call("POST", CHANGE, **headers).status == status


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
    for text in (answer.text, page.text):
        assert "an internal detail" not in text
        assert "Traceback" not in text
