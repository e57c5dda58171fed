"""The sign-in provider: keys that change, answers that do not come, tokens of the wrong kind."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.oidc import OidcProvider, provider, sign_in
from tests.web.conftest import Console, console
from tests.world import World
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings

VIEW = "/api/v1/jobs"


@pytest.fixture
def own(oidc: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """A provider of this test only, which it may stop and change."""
    yield from provider(tmp_path_factory.mktemp("provider"))


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **units: float) -> None:
        self.now += timedelta(**units)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def s(
    embedded_tcs: World, tmp_path: Path, own: OidcProvider, clock: Clock
) -> Iterator[Services]:
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, oidc_timeout_seconds=1.0, **own.settings()
    )
    services = Services(settings, clock)
    yield services
    services.close()


@pytest.fixture
def call(s: Services, own: OidcProvider) -> Iterator[Console]:
    with console(s, own.console_port) as answering:
        yield answering


def status(call: Console, token: str, path: str = VIEW) -> int:
    return call("GET", path, authorization=f"Bearer {token}").status


def test_a_new_key_of_the_provider_is_accepted_and_the_old_one_is_not(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    old = own.token()
    assert status(call, old) == 200
    clock.forward(seconds=60)
    own.rotate_key()
    assert status(call, own.token()) == 200
    assert status(call, old) == 401
    with httpx2.Client(base_url=call.url, timeout=30) as browser:
        assert "olga" in sign_in(browser, "/sync/", "olga").text


def test_a_key_that_the_provider_removed_is_not_trusted_for_longer_than_the_setting_says(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    old = own.token(exp=int(time.time()) + 3600)
    assert status(call, old) == 200
    own.rotate_key()
    clock.forward(seconds=299)
    assert status(call, old) == 200
    clock.forward(seconds=2)
    assert status(call, old) == 401


def test_tokens_with_unknown_keys_do_not_make_us_fetch_keys_all_the_time(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    assert status(call, own.token()) == 200
    clock.forward(seconds=60)
    strange = own.token(header={"kid": "unknown"})
    assert status(call, strange) == 401  # has fetched the keys
    own.rotate_key()
    assert status(call, own.token()) == 401  # too early to fetch them again
    clock.forward(seconds=31)
    assert status(call, own.token()) == 200


def test_a_key_of_a_kind_that_we_do_not_know_does_not_spoil_the_others(
    call: Console, own: OidcProvider
) -> None:
    own.other_keys = [{"kty": "NEW", "kid": "new", "alg": "NEW1"}]
    own.restart()
    assert status(call, own.token()) == 200


def test_a_provider_that_hangs_keeps_nobody_else_waiting(
    call: Console, own: OidcProvider
) -> None:
    answers: list[int] = []
    with own.hanging():
        threads = [
            threading.Thread(target=lambda: answers.append(call("GET", "/signin").status))
            for _ in range(50)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for _ in range(5):
            asked = time.monotonic()
            assert call("GET", "/health/live").status == 200
            assert time.monotonic() - asked < 1
        for thread in threads:
            thread.join(30)
        assert answers == [503] * 50
        assert time.monotonic() - start < 10
        asked = time.monotonic()
        assert call("GET", "/signin").status == 503  # the failure is remembered
        assert status(call, own.token()) == 503
        assert time.monotonic() - asked < 0.9


def test_a_provider_that_answers_again_is_asked_again(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    with own.hanging():
        assert call("GET", "/signin").status == 503
    clock.forward(seconds=11)
    assert call("GET", "/signin").status == 303


def test_liveness_is_answered_although_no_thread_is_free(
    call: Console, s: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def stuck() -> list[Any]:
        go_on.wait(30)
        return []

    monkeypatch.setattr(s.alarms, "open_alarms", stuck)
    threads = [
        threading.Thread(target=lambda: call("GET", "/health/ready")) for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(httpx2.TimeoutException):
            httpx2.get(f"{call.url}/sync/health/ready", timeout=2)
        assert httpx2.get(f"{call.url}/sync/health/live", timeout=1).status_code == 200
    finally:
        go_on.set()
        for thread in threads:
            thread.join(30)


@pytest.mark.parametrize(
    ("header", "claims", "expected"),
    [
        ({"typ": "at+jwt"}, {}, 200),
        ({"typ": "application/at+jwt"}, {}, 200),
        ({"typ": "JWT"}, {"typ": "Bearer"}, 200),  # Keycloak
        ({"typ": "JWT"}, {"typ": "ID"}, 401),
        ({"typ": "JWT"}, {"typ": "Refresh"}, 401),
        ({"typ": "JWT"}, {"typ": ["Bearer"]}, 401),
        ({"typ": "at+jwt"}, {"typ": "ID"}, 401),
        ({"typ": "logout+jwt"}, {}, 401),
        ({"typ": "dpop+jwt"}, {}, 401),
        ({"typ": "secevent+jwt"}, {}, 401),
        ({"typ": "JWT"}, {"nonce": "n"}, 401),  # an identity token
        ({"typ": "JWT"}, {"at_hash": "h"}, 401),
        ({"typ": "JWT"}, {"events": {}}, 401),
    ],
)
def test_only_access_tokens_are_bearer_tokens(
    call: Console, own: OidcProvider, header: Any, claims: Any, expected: int
) -> None:
    assert status(call, own.token(header=header, **claims)) == expected


def test_the_identity_token_of_a_person_is_no_bearer_token(
    call: Console, own: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    from tis_sync.web.auth import oidc as module

    original = module.verified

    def verified(token: str, *arguments: Any, **options: Any) -> Any:
        seen.append(token)
        return original(token, *arguments, **options)

    monkeypatch.setattr(module, "verified", verified)
    with httpx2.Client(base_url=call.url, timeout=30) as browser:
        assert "olga" in sign_in(browser, "/sync/", "olga").text
    assert seen
    assert status(call, seen[0]) == 401


@pytest.mark.parametrize(
    "roles",
    [
        {"tis-sync-update": False, "tis-sync-view": True},
        True,
        7,
        {"roles": ["tis-sync-view"]},
        [["tis-sync-view"]],
        [{"tis-sync-view": True}],
        "not tis-sync-view",
        None,
    ],
)
def test_roles_of_another_shape_than_a_list_of_names_are_no_roles(
    call: Console, own: OidcProvider, roles: Any
) -> None:
    assert status(call, own.token(realm_access={"roles": roles})) == 403


@pytest.mark.parametrize("claim", [True, 7, "tis-sync-view", ["tis-sync-view"], None])
def test_a_claim_of_another_shape_than_the_setting_says_contains_no_roles(
    call: Console, own: OidcProvider, claim: Any
) -> None:
    assert status(call, own.token(realm_access=claim)) == 403


def test_a_role_may_be_a_single_name(call: Console, own: OidcProvider) -> None:
    assert status(call, own.token(realm_access={"roles": "tis-sync-view"})) == 200


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], {}])
def test_a_token_without_a_subject_is_refused(
    call: Console, own: OidcProvider, subject: Any
) -> None:
    assert status(call, own.token(sub=subject)) == 401
    named = own.token(sub=subject, preferred_username="olga")
    assert status(call, named) == 401


def test_a_name_is_shown_only_if_it_is_a_text(call: Console, own: OidcProvider) -> None:
    token = own.token(preferred_username={"a": 1}, email=7, name="Ro\x1b[31mbot\r\n")
    call("POST", "/api/v1/runs/none/cancel", authorization=f"Bearer {token}")
    (entry, *_) = call("GET", "/api/v1/audit", authorization=f"Bearer {token}").json["items"]
    assert entry["actor"] == "Ro[31mbot"


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("", "no code"),
        ("?state={state}", "no code"),
        ("?code=&state={state}", "no code"),
        ("?xcode=1&state={state}", "no code"),
        ("?error=access_denied&state={state}", "access_denied"),
        ("?error=%3Cb%3E&error_description=call%20this%20number&state={state}", "refused"),
        ("?code=wrong&state={state}", "failed"),
        ("?code=a&code=b&state={state}", "failed"),
    ],
)
def test_the_end_of_a_sign_in_without_a_valid_code_is_a_page_that_says_so(
    call: Console, own: OidcProvider, query: str, part: str
) -> None:
    with httpx2.Client(base_url=call.url, timeout=30) as browser:
        begun = browser.get("/sync/signin")
        state = httpx2.URL(begun.headers["location"]).params["state"]
        ended = browser.get("/sync/signin/done" + query.format(state=state))
    assert (ended.status_code, part in ended.text) == (401, True), ended.text
    assert "call this number" not in ended.text
