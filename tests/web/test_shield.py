"""What stands between the world and the console: origins, sizes, rates, slow and wrong requests."""

import socket
import time
from dataclasses import replace
from datetime import datetime

import pytest

from tests.web.conftest import Console, console
from tis_sync.runs.services import Services
from tis_sync.web import sessions

NIGHT = "POST /sync/api/v1/night HTTP/1.1\r\nHost: localhost\r\n"
CHANGE = "/api/v1/runs/none/cancel"
FOUND_NOTHING = 404  # who was let through is told that there is no such run


@pytest.fixture
def s(looking: Services) -> Services:
    return looking


def raw(call: Console, request: str, seconds: float = 20) -> str:
    """Send some bytes as they are; what comes back."""
    with socket.create_connection(("127.0.0.1", call.port), seconds) as connection:
        connection.sendall(request.encode())
        return connection.recv(65536).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, FOUND_NOTHING),  # a script
        ({"Sec_Fetch_Site": "same-origin"}, FOUND_NOTHING),
        ({"Sec_Fetch_Site": "none"}, FOUND_NOTHING),
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


def test_a_form_of_our_own_page_is_taken(call: Console) -> None:
    own = {"Origin": call.url}
    assert call("POST", "/jobs/personOwnerRebuildJob/run", form={}, **own).status == 303


def test_a_body_that_is_too_large_is_refused_before_it_is_read(call: Console) -> None:
    large = call("POST", CHANGE, {"x": "y" * 70_000})
    assert (large.status, "larger than 64,000" in large.json["detail"]) == (413, True)
    said = raw(
        call,
        NIGHT + "Content-Length: 99999999999\r\n\r\n",
    )
    assert said.startswith("HTTP/1.1 413")
    chunk = "fa00\r\n" + "x" * 64_000 + "\r\n"
    said = raw(
        call,
        NIGHT + "Transfer-Encoding: chunked\r\n\r\n" + chunk * 2,
    )
    assert said.startswith("HTTP/1.1 413")


def test_a_slow_client_is_let_go_and_keeps_nobody_waiting(s: Services) -> None:
    quick = s.settings.model_copy(update={"web_body_seconds": 0.5})
    with console(replace(s, settings=quick)) as call:
        waiting = [socket.create_connection(("127.0.0.1", call.port)) for _ in range(50)]
        for connection in waiting:
            connection.sendall(b"GET /sync/ HTTP/1.1\r\nHost: local")
        asked = time.monotonic()
        assert call("GET", "/health/live").status == 200
        assert time.monotonic() - asked < 2
        for connection in waiting:
            connection.close()
        said = raw(
            call,
            NIGHT + "Content-Length: 10\r\n\r\n{",
        )
        assert said.startswith("HTTP/1.1 408")


def test_who_asks_too_often_is_told_to_wait(s: Services) -> None:
    few = s.settings.model_copy(update={"web_requests_a_minute": 5})
    with console(replace(s, settings=few)) as call:
        answers = [call("GET", "/api/jobs/status") for _ in range(12)]
        assert answers[0].status == 200
        assert (answers[-1].status, answers[-1].headers["retry-after"]) == (429, "60")
        assert call("GET", "/health/live").status == 200


def test_no_path_leads_out_of_what_is_served(call: Console) -> None:
    for path in (
        "/sync/static/../../../../../etc/passwd",
        "/sync/static/%2e%2e/%2e%2e/app.py",
        "/sync/static/..%2f..%2fapp.py",
        "/sync/static//etc/passwd",
        "/sync/esr/files/..%2f..%2fstate.sqlite",
        "/sync/api/v1/esr/files/..%2f..%2fstate.sqlite/content",
        "/sync/runbook?of=../../pyproject",
    ):
        said = raw(call, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert "root:" not in said
        assert "create_app" not in said
        assert said.startswith("HTTP/1.1 404") or "runbook" in path, path
    nul = call("GET", "/api/v1/jobs/%00")
    assert (nul.status, "NUL" in nul.json["detail"]) == (400, True)


def test_browsers_are_told_to_load_nothing_from_elsewhere(call: Console) -> None:
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
    s.alarms.raise_("failed", evil, evil, s.clock())
    call("POST", f"/api/v1/runs/{evil}/cancel")  # stands in the audit log
    for path in (
        "/",
        "/health",
        f"/search?text={evil}&owner={evil}&missing=x",
        f"/search?missing={evil}",
        f"/esr?placement={evil[:20]}",
        f"/runs?job={evil}",
        f"/jobs/{evil}",
        f"/runs/{evil}",
        f"/esr/files/{evil}",
    ):
        said = call("GET", path).text
        assert "<img" not in said, path
        assert "&lt;img" in said, path


def test_our_mistakes_are_told_without_their_insides(s: Services) -> None:
    def broken() -> datetime:
        raise ValueError("an inside that nobody is to see")

    with console(replace(s, given_clock=broken)) as call:
        said = call("GET", "/api/v1/esr/at-risk")
        page = call("GET", "/esr")
    assert (said.status, said.json["detail"]) == (500, "Our mistake; the log says more.")
    assert said.headers["content-type"] == "application/problem+json"
    assert (page.status, "Our mistake" in page.text) == (500, True)
    for answer in (said, page):
        assert "an inside" not in answer.text
        assert "Traceback" not in answer.text
