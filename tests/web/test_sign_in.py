"""Who may view and who may update: by a real provider, its tokens, and tokens of ours."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc.jwk import RSAKey

from tests.oidc import OidcProvider, sign_in
from tests.web.conftest import Console, console, console_with
from tests.world import World
from tis_sync import audit
from tis_sync.audit import Channel
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.web.auth import sessions, tokens

VIEW = "/api/v1/jobs"
UPDATE = "/api/v1/runs/none/cancel"
NOT_FOUND = 404  # the request passed, and there is no such run


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path, oidc: OidcProvider) -> Iterator[Services]:
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, night_start_hours=(0, 0), **oidc.settings()
    )
    services = Services(settings)
    yield services
    services.close()


@pytest.fixture
def call(s: Services, oidc: OidcProvider) -> Iterator[Console]:
    with console(s, oidc.console_port) as answering:
        yield answering


@pytest.fixture
def browser(call: Console) -> Iterator[httpx2.Client]:
    """A client that keeps cookies, as a browser does."""
    with httpx2.Client(base_url=call.url, timeout=30) as client:
        yield client


def test_a_person_signs_in_sees_the_requested_page_and_signs_out_everywhere(
    browser: httpx2.Client, call: Console, s: Services
) -> None:
    response = sign_in(browser, "/sync/runs?job=night", "olga")
    assert (response.status_code, str(response.url).partition("/sync")[2]) == (
        200,
        "/runs?job=night",
    )
    assert "olga" in response.text
    assert browser.get("/sync/api/v1/jobs").status_code == 200
    session = {sessions.COOKIE: browser.cookies[sessions.COOKIE]}
    same = {"Sec-Fetch-Site": "same-origin"}
    left = browser.post("/sync/signout", headers=same)
    assert left.status_code == 303
    assert "session/end" in left.headers["location"]
    assert httpx2.get(f"{call.url}/sync/api/v1/jobs", cookies=session).status_code == 401
    actions = [(entry.actor, entry.action, entry.outcome) for entry in audit.entries(s.state)]
    assert actions == [("olga", "sign out", "done"), ("olga", "sign in", "done")]


def test_scripts_and_other_sites_cannot_use_the_cookies(browser: httpx2.Client) -> None:
    started = browser.get("/sync/signin")
    (cookie,) = [v for v in started.headers.get_list("set-cookie") if "tis_sync_signin" in v]
    for part in ("HttpOnly", "SameSite=lax", "Path=/sync"):
        assert part in cookie
    assert "code_challenge_method=S256" in started.headers["location"]
    assert "nonce=" in started.headers["location"]


def test_an_https_console_has_secure_cookies_and_requires_tls(
    s: Services,
) -> None:
    settings = s.settings.model_copy(update={"web_url": "https://sync.example"})
    with console_with(s, settings) as call:
        started = call("GET", "/signin", host="sync.example")
    assert "Secure" in started.headers["set-cookie"]
    assert started.headers["strict-transport-security"].startswith("max-age=")


def test_a_viewer_cannot_change_anything_by_page_or_by_api(
    browser: httpx2.Client, s: Services
) -> None:
    assert sign_in(browser, "/sync/", "vera").status_code == 200
    page = browser.get("/sync/jobs/personOwnerRebuildJob").text
    assert "vera (read-only)" in page
    assert "<form" not in page.partition("</header>")[2]
    same = {"Sec-Fetch-Site": "same-origin"}
    paths = [
        "/sync/night",
        "/sync/health",
        "/sync/jobs/personOwnerRebuildJob/run",
        "/sync/jobs/personOwnerRebuildJob/pause",
        "/sync/jobs/personOwnerRebuildJob/unpause",
        "/sync/runs/x/cancel",
        "/sync/runs/x/resume",
        "/sync/runs/x/approve",
        "/sync/esr/export",
        "/sync/esr/commands/x/retry",
        "/sync/esr/commands/retry",
        "/sync/esr/dead-letters/x/retry",
        "/sync/esr/dead-letters/retry",
        "/sync/esr/dead-letters/x/discard",
        "/sync/api/v1/night",
        "/sync/api/v1/doctor",
        "/sync/api/v1/jobs/personOwnerRebuildJob/runs",
        "/sync/api/v1/jobs/personOwnerRebuildJob/pause",
        "/sync/api/v1/jobs/personOwnerRebuildJob/unpause",
        "/sync/api/v1/runs/x/cancel",
        "/sync/api/v1/runs/x/resume",
        "/sync/api/v1/runs/x/approve",
        "/sync/api/v1/esr/exports",
        "/sync/api/v1/esr/commands/x/retry",
        "/sync/api/v1/esr/commands/retry",
        "/sync/api/v1/esr/dead-letters/x/retry",
        "/sync/api/v1/esr/dead-letters/retry",
        "/sync/api/v1/esr/dead-letters/x/discard",
    ]
    described = browser.get("/sync/api/v1/openapi.json").json()["paths"]
    posts = {path.replace("{name}", "personOwnerRebuildJob") for path in described
             if "post" in described[path]}  # fmt: skip
    assert {p.replace("{run_id}", "x").replace("{command_id}", "x").replace("{dead_letter_id}", "x")
            for p in posts} <= set(paths)  # fmt: skip
    for path in paths:
        response = browser.post(path, headers=same, data={"deanery": "WES"})
        assert response.status_code in {403, 422}, path
    for path in ("/sync/api/jobs", "/sync/api/job/personOwnerRebuildJob"):
        assert browser.put(path, headers=same).status_code == 403
    assert s.history.recent() == []
    refused = audit.entries(s.state)[0]
    assert (refused.actor, refused.outcome) == ("vera", "refused: read-only access")


def test_a_person_without_a_role_is_refused_with_the_reason(browser: httpx2.Client) -> None:
    response = sign_in(browser, "/sync/", "nora")
    assert response.status_code == 403
    assert "nora has neither the role" in response.text
    assert browser.get("/sync/").status_code == 303


def test_a_name_with_markup_is_shown_as_it_is(browser: httpx2.Client) -> None:
    assert "&lt;b&gt;xavier&lt;/b&gt;" in sign_in(browser, "/sync/", "<b>xavier</b>").text


def test_without_sign_in_pages_redirect_to_the_provider_and_calls_are_refused(
    call: Console,
) -> None:
    redirected = call("GET", "/runs?job=night")
    assert (redirected.status, redirected.headers["location"]) == (
        303, "/sync/signin?next=/sync/runs%3Fjob%3Dnight",
    )  # fmt: skip
    for path in (VIEW, "/api/jobs/status", "/metrics", "/api/v1/openapi.json", "/live/tonight"):
        refused = call("GET", path)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer"), path
    assert call("GET", "/health/live").status == 200


def test_a_sign_in_leads_to_no_other_site_and_cannot_begin_in_another_browser(
    browser: httpx2.Client, call: Console
) -> None:
    response = sign_in(browser, "/sync/signin?next=https://evil.example/sync/", "olga")
    assert str(response.url) == f"{call.url}/sync/"
    stolen = call("GET", "/signin/done?code=abc&state=def")
    assert (stolen.status, "did not begin in this browser" in stolen.text) == (400, True)
    browser.get("/sync/signin")
    wrong = browser.get("/sync/signin/done?code=abc&state=other")
    assert wrong.status_code == 401
    assert "The sign-in failed" in wrong.text


def test_a_session_expires(call: Console, s: Services, oidc: OidcProvider) -> None:
    now = utc_now()
    short = s.settings.model_copy(update={"session_hours": 1.0})
    with (
        console_with(s, short, lambda: now) as other,
        httpx2.Client(base_url=call.url, timeout=30) as client,
    ):
        sign_in(client, "/sync/", "olga")
        cookies = {"cookie": f"{sessions.COOKIE}={client.cookies[sessions.COOKIE]}"}
        assert other("GET", VIEW, **cookies).status == 200
        now += timedelta(hours=13)
        assert other("GET", VIEW, **cookies).status == 401


def test_valid_tokens_of_the_provider_are_accepted(call: Console, oidc: OidcProvider) -> None:
    def status(path: str, token: str, method: str = "GET") -> int:
        return call(method, path, authorization=f"Bearer {token}").status

    view = {"realm_access": {"roles": ["tis-sync-view"]}}
    none = {"realm_access": {"roles": ["other"]}}
    now = int(time.time())
    strange = RSAKey.generate_key(2048, {"kid": oidc.key.kid or ""}, private=True)
    assert status(VIEW, oidc.token()) == 200
    assert status(UPDATE, oidc.token(), "POST") == NOT_FOUND
    assert status(VIEW, oidc.token(**view)) == 200
    assert status(UPDATE, oidc.token(**view), "POST") == 403
    assert status(VIEW, oidc.token(**none)) == 403
    wrong = {
        "expired": oidc.token(exp=now - 3600),
        "for another audience": oidc.token(aud="other"),
        "of another issuer": oidc.token(iss="https://evil.example"),
        "signed by another key": oidc.token(strange),
        "without an end": oidc.token(exp=None),
        "not signed": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb2JvdCJ9.",
        "nonsense": "nonsense",
        "not valid yet": oidc.token(nbf=now + 3600),
    }
    for fault, token in wrong.items():
        assert status(VIEW, token) == 401, fault
        assert status(UPDATE, token, "POST") == 401, fault
    assert call("GET", VIEW, authorization="Basic b2xnYTp4").status == 401


def test_every_call_of_the_api_checks_the_caller_and_the_role(
    call: Console, s: Services, oidc: OidcProvider
) -> None:
    def bearer(token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    described = call("GET", "/api/v1/openapi.json", **bearer(oidc.token())).json["paths"]
    weak = oidc.token(realm_access={"roles": ["tis-sync-view"]})
    without: list[dict[str, str]] = [{}, bearer("wrong"), bearer(oidc.token(exp=1))]
    calls = [(method.upper(), path) for path, methods in described.items() for method in methods]
    assert len(calls) > 35
    for method, path in calls:
        filled = re.sub(r"{\w+}", "1", path.removeprefix("/sync"))
        if filled.startswith("/health/"):
            continue
        for headers in without:
            assert call(method, filled, **headers).status == 401, (method, path)
        if method != "GET":
            body: dict[str, Any] = {"json": {}} if method == "POST" else {}
            assert call(method, filled, **body, **bearer(weak)).status == 403, (method, path)
    assert s.history.recent() == []


def test_our_tokens_are_accepted_until_they_are_revoked_or_expire(
    call: Console, s: Services
) -> None:
    secret = tokens.create(s.state, "grafana", "view", 30, "root", s.clock())
    strong = tokens.create(s.state, "deploy", "update", 30, "root", s.clock())
    old = tokens.create(s.state, "old", "update", 1, "root", s.clock() - timedelta(days=2))

    def status(method: str, path: str, token: str) -> int:
        return call(method, path, authorization=f"Bearer {token}").status

    assert status("GET", "/metrics", secret) == 200
    assert status("POST", UPDATE, secret) == 403
    assert status("POST", UPDATE, strong) == NOT_FOUND
    assert status("GET", VIEW, old) == 401
    assert status("GET", VIEW, secret + "x") == 401
    tokens.revoke(s.state, "grafana", s.clock())
    assert status("GET", VIEW, secret) == 401
    assert {token.name: token.used_at is not None for token in tokens.tokens(s.state)} == {
        "grafana": True, "deploy": True, "old": False,
    }  # fmt: skip
    (entry,) = [e for e in audit.entries(s.state) if e.action == "cancel"]
    assert (entry.actor, entry.channel) == ("token deploy", Channel.TOKEN)
    assert entry.subject == "none"
