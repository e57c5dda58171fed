"""The sign-in provider: keys that change, and answers that do not come."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.oidc import OidcProvider, provider, sign_in
from tests.web.conftest import Clock, Console, console, status
from tests.world import World
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

VIEW = "/api/v1/jobs"


@pytest.fixture
def own(oidc: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """A provider of this test only, which it may stop and change."""
    yield from provider(tmp_path_factory.mktemp("provider"))


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path, own: OidcProvider, clock: Clock) -> Iterator[Services]:
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


def test_a_provider_that_hangs_keeps_nobody_else_waiting(call: Console, own: OidcProvider) -> None:
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
    threads = [threading.Thread(target=lambda: call("GET", "/health/ready")) for _ in range(60)]
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
