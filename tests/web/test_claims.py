"""The tokens of the provider: of which kind, of whom, with which roles; sign-ins without a code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.oidc import OidcProvider, sign_in
from tests.web.conftest import Console, console, status
from tests.world import World
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web.auth import claims


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path, oidc: OidcProvider) -> Iterator[Services]:
    services = Services(Settings(home=tmp_path, tcs_url=embedded_tcs.url, **oidc.settings()))
    yield services
    services.close()


@pytest.fixture
def call(s: Services, oidc: OidcProvider) -> Iterator[Console]:
    with console(s, oidc.console_port) as answering:
        yield answering


@pytest.mark.parametrize(
    ("header", "others", "expected"),
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
    call: Console, oidc: OidcProvider, header: Any, others: Any, expected: int
) -> None:
    assert status(call, oidc.token(header=header, **others)) == expected


def test_the_identity_token_of_a_person_is_no_bearer_token(
    call: Console, oidc: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def verified(token: str, *arguments: Any, **options: Any) -> Any:
        seen.append(token)
        return claims.verified(token, *arguments, **options)

    monkeypatch.setattr("tis_sync.web.auth.oidc.verified", verified)
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
    call: Console, oidc: OidcProvider, roles: Any
) -> None:
    assert status(call, oidc.token(realm_access={"roles": roles})) == 403


@pytest.mark.parametrize("claim", [True, 7, "tis-sync-view", ["tis-sync-view"], None])
def test_a_claim_of_another_shape_than_the_setting_says_contains_no_roles(
    call: Console, oidc: OidcProvider, claim: Any
) -> None:
    assert status(call, oidc.token(realm_access=claim)) == 403


def test_a_role_may_be_a_single_name(call: Console, oidc: OidcProvider) -> None:
    assert status(call, oidc.token(realm_access={"roles": "tis-sync-view"})) == 200


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], {}])
def test_a_token_without_a_subject_is_refused(
    call: Console, oidc: OidcProvider, subject: Any
) -> None:
    assert status(call, oidc.token(sub=subject)) == 401
    named = oidc.token(sub=subject, preferred_username="olga")
    assert status(call, named) == 401


def test_a_name_is_shown_only_if_it_is_a_text(call: Console, oidc: OidcProvider) -> None:
    token = oidc.token(preferred_username={"a": 1}, email=7, name="Ro\x1b[31mbot\r\n")
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
    call: Console, oidc: OidcProvider, query: str, part: str
) -> None:
    with httpx2.Client(base_url=call.url, timeout=30) as browser:
        begun = browser.get("/sync/signin")
        state = httpx2.URL(begun.headers["location"]).params["state"]
        ended = browser.get("/sync/signin/done" + query.format(state=state))
    assert (ended.status_code, part in ended.text) == (401, True), ended.text
    assert "call this number" not in ended.text
